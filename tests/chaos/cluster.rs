//! Real Kafka brokers of a run's own, each a process that can be killed and come back with its data.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

use crate::support::proxy::Proxy;
use crate::support::until;

const SERVERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers");

/// The brokers; dropping it ends them.
pub(crate) struct Cluster {
    folder: tempfile::TempDir,
    jars: PathBuf,
    ports: Vec<u16>,
    /// The way to each broker that the daemons take.
    links: Vec<Proxy>,
    nodes: Vec<Option<Child>>,
}

impl Cluster {
    /// Starts `count` brokers that are controllers, too; with three or more, everything has three replicas and needs two.
    pub(crate) fn start(count: usize) -> Self {
        let fetched = Command::new(format!("{SERVERS}/fetch")).output().unwrap();
        assert!(fetched.status.success(), "{}", String::from_utf8_lossy(&fetched.stderr));
        let jars = PathBuf::from(String::from_utf8(fetched.stdout).unwrap().trim()).join("kafka/*");
        let held: Vec<TcpListener> = (0..3 * count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let mut ports: Vec<u16> = held.iter().map(|held| held.local_addr().unwrap().port()).collect();
        drop(held);
        let linked = ports.split_off(2 * count);
        let controllers = ports.split_off(count);
        let links = linked.iter().map(|port| Proxy::start(&format!("127.0.0.1:{port}"))).collect();
        let folder = tempfile::tempdir().unwrap();
        let mut cluster = Self { folder, jars, ports, links, nodes: (0..count).map(|_| None).collect() };
        for (node, linked) in linked.into_iter().enumerate() {
            cluster.write_properties(node, &controllers, linked);
            let format = ["kafka.tools.StorageTool", "format", "-t", "tidemillTestServer0003", "-c"];
            let formatted = cluster.java(node, &format).status().unwrap();
            assert!(formatted.success(), "{}", cluster.log(node));
        }
        for node in 0..count {
            cluster.spawn(node);
        }
        until("all brokers are there", || (cluster.brokers_seen() == count).then_some(()));
        cluster
    }

    fn write_properties(&self, node: usize, controllers: &[u16], linked: u16) {
        let count = controllers.len();
        let (replicas, least) = if count >= 3 { (3, 2) } else { (1, 1) };
        let voters = controllers.iter().enumerate().map(|(id, port)| format!("{}@127.0.0.1:{port}", id + 1));
        let voters = voters.collect::<Vec<_>>().join(",");
        let mut text = std::fs::read_to_string(format!("{SERVERS}/kafka.properties"))
            .unwrap()
            .replace("node.id=1", &format!("node.id={}", node + 1))
            .replace("1@127.0.0.1:@CONTROLLER@", &voters)
            .replace("@PORT@", &self.ports[node].to_string())
            .replace("@CONTROLLER@", &controllers[node].to_string())
            .replace("@DATA@", self.folder.path().join(format!("data-{node}")).to_str().unwrap());
        for name in ["offsets.topic", "transaction.state.log", "share.coordinator.state.topic"] {
            text =
                text.replace(&format!("{name}.replication.factor=1"), &format!("{name}.replication.factor={replicas}"));
        }
        text = text.replace("transaction.state.log.min.isr=1", &format!("transaction.state.log.min.isr={least}"));
        let (port, advertised) = (self.ports[node], self.links[node].address());
        text.push_str(&format!(
            "\nlisteners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{},LINK://127.0.0.1:{linked}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port},LINK://{advertised}\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,LINK:PLAINTEXT\n",
            controllers[node],
        ));
        text.push_str(&format!(
            "\ndefault.replication.factor={replicas}\nmin.insync.replicas={least}\nbroker.session.timeout.ms=3000\n\
             broker.heartbeat.interval.ms=500\n"
        ));
        std::fs::write(self.folder.path().join(format!("kafka-{node}.properties")), text).unwrap();
    }

    fn java(&self, node: usize, arguments: &[&str]) -> Command {
        let log = self.folder.path().join(format!("log-{node}"));
        let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
        let mut command = Command::new("setpriv");
        let options =
            ["--pdeathsig", "KILL", "java", "-XX:TieredStopAtLevel=1", "-Xmx384m", "-Dlog4j2.level=WARN", "-cp"];
        command.args(options).arg(&self.jars).args(arguments);
        command.arg(self.folder.path().join(format!("kafka-{node}.properties")));
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        command
    }

    fn log(&self, node: usize) -> String {
        std::fs::read_to_string(self.folder.path().join(format!("log-{node}"))).unwrap_or_default()
    }

    fn spawn(&mut self, node: usize) {
        self.nodes[node] = Some(self.java(node, &["kafka.Kafka"]).spawn().unwrap());
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Where the brokers are by way of the links.
    pub(crate) fn linked_servers(&self) -> String {
        self.links.iter().map(Proxy::address).collect::<Vec<_>>().join(",")
    }

    /// The link to one of the brokers, or all of them.
    pub(crate) fn links(&self, node: Option<usize>) -> &[Proxy] {
        node.map_or(&*self.links, |node| std::slice::from_ref(&self.links[node]))
    }

    pub(crate) fn servers(&self) -> String {
        self.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(",")
    }

    fn brokers_seen(&self) -> usize {
        let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", self.servers()).create().unwrap();
        client.fetch_metadata(None, Duration::from_secs(2)).map_or(0, |metadata| metadata.brokers().len())
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self, node: usize) {
        if let Some(mut child) = self.nodes[node].take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Waits until the others have taken over from one that was killed. One that is back before leads its partitions still, and may
    /// forget to end a transaction (docs/operations/failure-modes.md), which no client can mend.
    pub(crate) fn wait_until_noticed(&self) {
        let alive = self.nodes.iter().flatten().count();
        until("the others have noticed", || (self.brokers_seen() == alive).then_some(()));
    }

    /// Starts a broker on the data that it has, and waits until it is one of them again.
    pub(crate) fn resume(&mut self, node: usize) {
        self.spawn(node);
        let count = self.nodes.len();
        until("the broker is back", || {
            if let Some(status) = self.nodes[node].as_mut().unwrap().try_wait().unwrap() {
                panic!("{status}: {}", self.log(node));
            }
            (self.brokers_seen() == count).then_some(())
        });
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in 0..self.nodes.len() {
            self.kill(node);
        }
    }
}
