//! The daemon as a process: its log, its exit, its answers over HTTP. Dropping it kills it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use super::DEADLINE;

/// A daemon that was started.
#[derive(Debug)]
pub(crate) struct Run {
    child: Child,
    log: tempfile::NamedTempFile,
}

impl Run {
    pub(crate) fn start(mut command: Command) -> Self {
        let log = tempfile::NamedTempFile::new().unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.reopen().unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, log }
    }

    /// Everything it has said so far.
    pub(crate) fn said(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log.path()).unwrap()).into_owned()
    }

    /// Waits until the log says something.
    pub(crate) fn says(&mut self, part: &str) {
        self.says_one_of(&[part]);
    }

    /// Waits until the log says one of these.
    pub(crate) fn says_one_of(&mut self, parts: &[&str]) {
        let end = Instant::now() + DEADLINE;
        loop {
            let ended = self.exited().is_some();
            let said = self.said();
            if parts.iter().any(|part| said.contains(part)) {
                return;
            }
            assert!(!ended && Instant::now() < end, "none of {parts:?} in the log (ended: {ended}):\n{said}");
            std::thread::park_timeout(Duration::from_millis(25));
        }
    }

    /// The memory it has in use now and had at most, in KiB.
    pub(crate) fn resident_kib(&self) -> (u64, u64) {
        (self.status("VmRSS:"), self.status("VmHWM:"))
    }

    pub(crate) fn threads(&self) -> u64 {
        self.status("Threads:")
    }

    pub(crate) fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// A number that the kernel says of the process.
    fn status(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
    }

    pub(crate) fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.exited() {
                return status;
            }
            assert!(Instant::now() < end, "it does not end:\n{}", self.said());
            std::thread::park_timeout(Duration::from_millis(25));
        }
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
    }

    /// Runs `tidemill` against it, with `--json`; returns the exit code and what it printed.
    pub(crate) fn command(&mut self, arguments: &[&str]) -> (Option<i32>, Json) {
        let url = format!("http://{}", self.address("http"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        command.args(arguments).args(["--json", "--url", &url]);
        if ["replay", "drop", "release"].iter().any(|word| arguments.contains(word)) {
            command.arg("--admin-url").arg(format!("http://{}", self.address("admin")));
        }
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let shown = serde_json::from_str(&text).unwrap_or_else(|_| Json::String(text));
        (output.status.code(), shown)
    }

    pub(crate) fn kill(mut self) -> String {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.said()
    }

    /// Stops it as an operator does, and returns what it said.
    pub(crate) fn stop(mut self) -> String {
        self.signal("TERM");
        let status = self.wait();
        let said = self.said();
        assert!(status.success(), "{status}:\n{said}");
        said
    }

    /// Waits for the end that the crash hook makes.
    pub(crate) fn crashes_at(mut self, step: &str) -> String {
        let status = self.wait();
        let said = self.said();
        assert!(said.contains(&format!("crashing at {step}")), "`{step}` was never reached ({status}):\n{said}");
        assert_eq!(status.signal(), Some(6), "{status}");
        said
    }

    /// The address of a listener, `http` or `admin`, once it listens.
    pub(crate) fn address(&mut self, listener: &str) -> String {
        self.says("\"message\":\"listening\"");
        let said = self.said();
        let line = said.lines().find(|line| line.contains("\"message\":\"listening\"")).unwrap();
        let line: Json = serde_json::from_str(line).unwrap();
        line[listener].as_str().unwrap().to_owned()
    }

    /// What it answers at a path to a request with further headers.
    pub(crate) fn ask_with(&mut self, path: &str, headers: &str) -> (u16, String) {
        let address = self.address("http");
        exchange(&address, &format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{headers}\r\n"))
            .unwrap_or_else(|error| panic!("{path}: {error}\n{}", self.said()))
    }

    /// What it answers at a path.
    pub(crate) fn ask(&mut self, path: &str) -> (u16, String) {
        self.ask_with(path, "")
    }

    /// What it answers to a command, `o1/commands/Cancel`, of an entity.
    pub(crate) fn ask_entity(
        &mut self,
        entity: &str,
        place: &str,
        headers: &str,
        body: &str,
    ) -> std::io::Result<(u16, Json)> {
        let address = self.address("admin");
        let length = body.len();
        let request = format!(
            "POST /v1/entities/{entity}/keys/{place} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
        );
        let (status, body) = exchange(&address, &request)?;
        Ok((status, serde_json::from_str(&body).map_err(std::io::Error::other)?))
    }

    /// How many records it has worked on, by its metrics.
    pub(crate) fn consumed(&mut self) -> u64 {
        self.metric("tidemill_records_consumed_total{") as u64
    }

    /// What the samples come to that begin with this.
    pub(crate) fn metric(&mut self, beginning: &str) -> f64 {
        let metrics = self.ask("/metrics").1;
        let samples = metrics.lines().filter(|line| line.starts_with(beginning));
        samples.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    /// A JSON answer; none when there is something in the way for now.
    pub(crate) fn json(&mut self, path: &str) -> Option<Json> {
        let (status, body) = self.ask(path);
        match status {
            200 => Some(serde_json::from_str(&body).unwrap()),
            404 | 503 => None,
            _ => panic!("{path}: {status} {body}"),
        }
    }

    /// All rows of a store; none while it cannot be read.
    pub(crate) fn rows(&mut self, store: &str) -> Option<Vec<Json>> {
        let answer = self.json(&format!("/v1/stores/{store}/keys?limit=1000"))?;
        let rows = answer["keys"].as_array().unwrap().clone();
        assert!(answer.get("cursor").is_none(), "more rows than one page");
        Some(rows)
    }

    /// All committed records of a topic, partition by partition.
    pub(crate) fn records(&mut self, topic: &str) -> Option<Vec<Json>> {
        let about = self.json(&format!("/v1/topics/{topic}"))?;
        let mut all = Vec::new();
        for partition in about["partitions"].as_array().unwrap() {
            let mut next = partition["start"].as_i64().unwrap();
            while next < partition["end"].as_i64().unwrap() {
                let partition = &partition["partition"];
                let path = format!("/v1/topics/{topic}/records?partition={partition}&offset={next}&limit=1000");
                let page = self.json(&path)?;
                all.extend(page["records"].as_array().unwrap().iter().cloned());
                let after = page["next"].as_i64().unwrap();
                if after == next {
                    break;
                }
                next = after;
            }
        }
        Some(all)
    }

    /// The tasks that are quarantined, with the reason.
    pub(crate) fn stopped_tasks(&mut self) -> Vec<(String, String)> {
        let tasks = self.json("/v1/tasks").unwrap_or_default();
        let tasks = tasks.get("tasks").unwrap_or(&tasks).as_array().cloned().unwrap_or_default();
        tasks
            .iter()
            .filter_map(|task| Some((task["task"].as_str()?.to_owned(), task["error"].as_str()?.to_owned())))
            .collect()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// One request and its whole answer: status and body.
pub(crate) fn exchange(address: &str, request: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other(format!("no HTTP: {head}")))?;
    Ok((status, body.to_owned()))
}
