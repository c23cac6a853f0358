//! A Kafka of a test's own, behind a proxy that its clients are sent to: it can be unreachable, be killed and come back with its
//! data. Started as `tests/servers/run` does it, of the same archives.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tidemill::broker::Broker as _;
use tidemill::broker::kafka::{KafkaBroker, KafkaSettings};

use super::proxy::Proxy;
use super::{Place, rest, until};

const SERVERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers");

/// The server; dropping it ends it.
#[derive(Debug)]
pub(crate) struct KafkaServer {
    folder: tempfile::TempDir,
    jars: PathBuf,
    pub(crate) proxy: Proxy,
    child: Option<Child>,
}

impl KafkaServer {
    pub(crate) fn start() -> Self {
        Self::start_with("")
    }

    /// With more properties than the others have.
    pub(crate) fn start_with(more: &str) -> Self {
        let fetched = Command::new(format!("{SERVERS}/fetch")).output().unwrap();
        assert!(fetched.status.success(), "{}", String::from_utf8_lossy(&fetched.stderr));
        let jars = PathBuf::from(String::from_utf8(fetched.stdout).unwrap().trim()).join("kafka/*");
        let folder = tempfile::tempdir().unwrap();
        let [listener, controller] = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let port = listener.local_addr().unwrap().port();
        let proxy = Proxy::start(&format!("127.0.0.1:{port}"));
        let data = folder.path().join("data");
        let properties = std::fs::read_to_string(format!("{SERVERS}/kafka.properties"))
            .unwrap()
            .replace("PLAINTEXT://127.0.0.1:@PORT@\n", &format!("PLAINTEXT://{}\n", proxy.address()))
            .replace("@PORT@", &port.to_string())
            .replace("@CONTROLLER@", &controller.local_addr().unwrap().port().to_string())
            .replace("@DATA@", data.to_str().unwrap())
            + more;
        std::fs::write(folder.path().join("kafka.properties"), properties).unwrap();
        drop((listener, controller));
        let mut server = Self { folder, jars, proxy, child: None };
        let format = ["kafka.tools.StorageTool", "format", "-t", "tidemillTestServer0001", "-c"];
        let formatted = server.java(&format).status().unwrap();
        assert!(formatted.success(), "{}", server.log());
        server.resume();
        server
    }

    fn java(&self, arguments: &[&str]) -> Command {
        let log = std::fs::File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let mut command = Command::new("setpriv");
        command.args([
            "--pdeathsig",
            "KILL",
            "java",
            "-XX:TieredStopAtLevel=1",
            "-Xmx384m",
            "-Dlog4j2.level=WARN",
            "-cp",
        ]);
        command.arg(&self.jars).args(arguments).arg(self.folder.path().join("kafka.properties"));
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        command
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Starts the server on the data that it has, and waits until it answers.
    pub(crate) fn resume(&mut self) {
        self.child = Some(self.java(&["kafka.Kafka"]).spawn().unwrap());
        let broker = KafkaBroker::new(KafkaSettings {
            bootstrap_servers: self.proxy.address(),
            properties: std::collections::BTreeMap::new(),
            client_id: "tidemill-test".to_owned(),
        })
        .unwrap();
        until("the test's own Kafka answers", || {
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                panic!("{status}: {}", self.log());
            }
            broker.admin().unwrap().list(Duration::from_secs(2)).ok()
        });
    }

    /// `kill -9` when no commit is under way: the server writes a transaction's markers behind its answer, and may forget them when it is killed
    /// before (docs/operations/failure-modes.md).
    pub(crate) fn kill_at_rest(&mut self) {
        rest(Duration::from_secs(2));
        self.kill();
    }

    fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub(crate) fn place(&self) -> Place {
        Place::Kafka { servers: self.proxy.address(), registry: None }
    }
}

impl Drop for KafkaServer {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}
