//! A TCP proxy that a test can cut and mend, and that can look for a Kafka request on its way.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::until;

/// What happens to connections.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Link {
    Up,
    Down,
    /// Cut as soon as a request of this Kafka API is met: before it is passed on, or when its answer comes.
    Trap {
        api: i16,
        when: When,
    },
    /// Nobody gets a producer id for transactions, as where a broker has none.
    NoTransactions,
    /// Everything takes so much longer, each way.
    Slow(Duration),
}

/// When a trap snaps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum When {
    BeforeTheRequest,
    InsteadOfTheAnswer,
}

/// Kafka's request for a producer id.
const INIT_PRODUCER_ID: i16 = 22;
/// Kafka's error of a request that the broker does not serve.
const UNSUPPORTED_VERSION: i16 = 35;

/// Kafka's request that ends a transaction.
pub(crate) const END_TXN: i16 = 26;

#[derive(Debug)]
struct Inner {
    link: Link,
    streams: Vec<TcpStream>,
    upstream: String,
}

/// The proxy; it ends with the process.
#[derive(Clone, Debug)]
pub(crate) struct Proxy {
    inner: Arc<Mutex<Inner>>,
    address: String,
}

impl Proxy {
    pub(crate) fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let inner = Inner { link: Link::Up, streams: Vec::new(), upstream: upstream.to_owned() };
        let inner = Arc::new(Mutex::new(inner));
        let proxy = Self { inner, address };
        let serving = proxy.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                serving.connect(client.unwrap());
            }
        });
        proxy
    }

    pub(crate) fn address(&self) -> String {
        self.address.clone()
    }

    /// Ends every connection and takes no new one.
    pub(crate) fn cut(&self) {
        let mut inner = self.inner.lock().unwrap();
        inner.link = Link::Down;
        for stream in inner.streams.drain(..) {
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    pub(crate) fn mend(&self) {
        self.inner.lock().unwrap().link = Link::Up;
    }

    /// Cuts the link at the next request of a Kafka API.
    pub(crate) fn set_trap(&self, api: i16, when: When) {
        self.inner.lock().unwrap().link = Link::Trap { api, when };
    }

    /// Refuses transactions from here on; producers without them go on.
    pub(crate) fn refuse_transactions(&self) {
        self.inner.lock().unwrap().link = Link::NoTransactions;
    }

    /// Holds up what passes, each way.
    pub(crate) fn slow_down(&self, by: Duration) {
        self.inner.lock().unwrap().link = Link::Slow(by);
    }

    /// Waits until the trap has snapped.
    pub(crate) fn wait_for_trap(&self) {
        until("the trap snaps", || (self.inner.lock().unwrap().link == Link::Down).then_some(()));
    }

    fn link(&self) -> Link {
        self.inner.lock().unwrap().link
    }

    fn connect(&self, client: TcpStream) {
        let upstream = self.inner.lock().unwrap().upstream.clone();
        if self.link() == Link::Down {
            return;
        }
        let Ok(server) = TcpStream::connect(upstream) else { return };
        let both = |stream: &TcpStream| stream.try_clone().unwrap();
        self.inner.lock().unwrap().streams.extend([both(&client), both(&server)]);
        // Correlation ids of requests whose answers the trap waits for.
        let awaited = Arc::new(Mutex::new(Vec::new()));
        let (there, back) = (self.clone(), self.clone());
        let (sent, met) = (Arc::clone(&awaited), awaited);
        let (from, to) = (both(&client), both(&server));
        std::thread::spawn(move || there.pump(from, to, &mut |frame| there.passes_request(frame, &sent)));
        std::thread::spawn(move || back.pump(server, client, &mut |frame| back.passes_answer(frame, &met)));
    }

    /// Copies bytes until the end; while a trap is set, what passes is looked at frame by frame.
    fn pump(&self, mut from: TcpStream, mut to: TcpStream, passes: &mut dyn FnMut(&mut [u8]) -> bool) {
        let mut held = Vec::new();
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count) = from.read(&mut buffer) {
            if count == 0 || self.link() == Link::Down {
                break;
            }
            if let Link::Slow(by) = self.link() {
                std::thread::park_timeout(by);
            }
            held.extend_from_slice(&buffer[..count]);
            // Frames are cut at their ends at all times, so that a trap finds their beginnings. Anything but Kafka is one "frame".
            while let Some(length) = frame_length(&held) {
                let mut frame: Vec<u8> = held.drain(..length).collect();
                if !passes(&mut frame) {
                    self.cut();
                    return;
                }
                if to.write_all(&frame).is_err() {
                    return;
                }
            }
        }
        drop(to.shutdown(Shutdown::Both));
        drop(from.shutdown(Shutdown::Both));
    }

    fn passes_request(&self, frame: &[u8], sent: &Mutex<Vec<[u8; 4]>>) -> bool {
        let (api, when) = match self.link() {
            Link::Up | Link::Down | Link::Slow(_) => return true,
            Link::Trap { api, when } => (api, when),
            Link::NoTransactions if is_for_transactions(frame) => (INIT_PRODUCER_ID, When::InsteadOfTheAnswer),
            Link::NoTransactions => return true,
        };
        if frame.len() < 12 || frame[4..6] != api.to_be_bytes() {
            return true;
        }
        sent.lock().unwrap().push(frame[8..12].try_into().unwrap());
        when == When::InsteadOfTheAnswer
    }

    fn passes_answer(&self, frame: &mut [u8], met: &Mutex<Vec<[u8; 4]>>) -> bool {
        let awaited = met.lock().unwrap();
        let is_awaited = awaited.iter().any(|id| frame.len() >= 8 && frame[4..8] == *id);
        if is_awaited && self.link() == Link::NoTransactions {
            // Size, correlation id, tags (from version 2 on), throttle time: then the error code.
            frame[13..15].copy_from_slice(&UNSUPPORTED_VERSION.to_be_bytes());
            return true;
        }
        !(is_awaited && matches!(self.link(), Link::Trap { .. }))
    }
}

/// Tells whether a request asks for a producer id under a transactional id: size, api, version, correlation id, client id, tags, and
/// then a text that is not null.
fn is_for_transactions(frame: &[u8]) -> bool {
    if frame.len() < 16 || frame[4..6] != INIT_PRODUCER_ID.to_be_bytes() {
        return false;
    }
    let client_bytes = i16::from_be_bytes([frame[12], frame[13]]).max(0) as usize;
    frame.get(14 + client_bytes + 1).is_some_and(|length| *length != 0)
}

/// The length of the first frame, if it is there: Kafka's begin with their size. HTTP is passed on as it comes.
fn frame_length(held: &[u8]) -> Option<usize> {
    let size = u32::from_be_bytes(held.get(..4)?.try_into().unwrap()) as usize;
    if held[0].is_ascii_alphabetic() {
        return Some(held.len());
    }
    Some(size + 4).filter(|length| held.len() >= *length)
}
