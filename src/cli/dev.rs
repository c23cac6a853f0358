//! `dev`: a topology with everything it needs in one process, the embedded broker and registry included.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use tokio::sync::oneshot;

use super::args::Global;
use super::daemon::{Ended, Host, settings};
use super::topology_folder::{Folder, schema_path};
use super::{Exit, Failure};
use crate::config::Settings;
use crate::dev::environment::{self, Environment};
use crate::metrics::TopologyInfo;
use crate::plan::{Deployed, Plan};
use crate::runtime::{Daemon, Options};

/// Run a topology on the embedded broker: no server, everything kept in a folder, HTTP at hand
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  tidemill dev topologies/flights\n  tidemill dev topologies/orders --data .tidemill/orders"
)]
pub(crate) struct Dev {
    /// The topology's folder
    folder: PathBuf,
    /// Further folders with `.avsc` files (default: `schemas`)
    #[arg(long, value_name = "FOLDER")]
    schemas: Vec<PathBuf>,
    /// Where the broker's topics and the registry are kept
    #[arg(long, value_name = "FOLDER", default_value = ".tidemill")]
    data: PathBuf,
}

/// Run a topology on Apache Kafka or Azure Event Hubs, as `tidemill.toml` says
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  tidemill run topologies/flights --config tidemill.toml\n  \
                        TIDEMILL__KAFKA__BOOTSTRAP_SERVERS=localhost:9092 tidemill run topologies/flights")]
pub(crate) struct Run {
    /// The topology's folder
    folder: PathBuf,
    /// Further folders with `.avsc` files (default: `schemas`)
    #[arg(long, value_name = "FOLDER")]
    schemas: Vec<PathBuf>,
}

pub(crate) fn dev(command: &Dev, global: &Global) -> Result<Exit, Failure> {
    let mut settings = settings(global)?;
    settings.state.dir = command.data.join("state");
    let (plan, deployed) = read_plan(&command.folder, &command.schemas, &settings)?;
    let environment = Environment::embedded(&command.data).map_err(|error| failed(&error))?;
    environment.prepare_sources(&plan).map_err(|error| failed(&error))?;
    host(plan, &deployed, environment, &settings)
}

pub(crate) fn run(command: &Run, global: &Global) -> Result<Exit, Failure> {
    let settings = settings(global)?;
    let Some(servers) = settings.kafka.bootstrap_servers.clone() else {
        return Err(Failure::new(Exit::Config, "no broker is configured")
            .code(crate::error::codes::BROKER_NOT_SET)
            .help("set `kafka.bootstrap_servers` in tidemill.toml or TIDEMILL__KAFKA__BOOTSTRAP_SERVERS; `tidemill dev` needs none"));
    };
    let (plan, deployed) = read_plan(&command.folder, &command.schemas, &settings)?;
    let environment = Environment::of_settings(&settings, &servers).map_err(|error| failed(&error))?;
    host(plan, &deployed, environment, &settings)
}

pub(crate) fn read_plan(
    folder: &std::path::Path,
    schemas: &[PathBuf],
    settings: &Settings,
) -> Result<(Plan, Deployed), Failure> {
    let folder = Folder::read(folder, &schema_path(schemas))?;
    let deployed = Deployed::new(&folder.sources, settings.application_id.as_deref(), &settings.bind_topics);
    let mut plan = folder.into_plan(Exit::Config)?;
    plan.bind(&|topic| settings.bound_topic(topic).to_owned());
    if let Some(id) = &settings.application_id {
        plan.rename_application(id);
    }
    Ok((plan, deployed))
}

pub(crate) fn failed(error: &environment::Error) -> Failure {
    let exit = match error {
        environment::Error::Broker(error) => Exit::of(error.kind()),
        environment::Error::Registry(error) => Exit::of(error.kind()),
        environment::Error::Folder { .. } => Exit::Io,
    };
    let failure = Failure::from_error(exit, error);
    let code = match error {
        environment::Error::Broker(error) => error.code(),
        environment::Error::Registry(error) => error.code(),
        environment::Error::Folder { .. } => None,
    };
    match code {
        Some(code) => failure.code(code),
        None => failure,
    }
}

pub(crate) fn stopped(error: &crate::runtime::Error) -> Failure {
    // The daemon tries again by itself; when it has ended all the same, it is the disk that needs somebody.
    let disk = matches!(error, crate::runtime::Error::Store(state) if state.kind() == crate::error::Kind::Retry);
    let exit = if disk { Exit::Io } else { Exit::of(error.kind()) };
    let failure = Failure::from_error(exit, error);
    match error.code() {
        Some(code) => failure.code(code),
        None => failure,
    }
}

/// Runs the daemon with its listeners until a signal, then stops it cleanly.
fn host(plan: Plan, deployed: &Deployed, environment: Environment, settings: &Settings) -> Result<Exit, Failure> {
    crate::crash::arm_from_environment().map_err(|message| Failure::new(Exit::Usage, message))?;
    let info =
        TopologyInfo { application_id: plan.application_id.clone(), fingerprint: format!("{:016x}", plan.fingerprint) };
    let options = environment::options(settings, &plan).map_err(|error| failed(&error))?;
    let options = Options { deployed: deployed.encode(), ..options };
    super::logging::start(&settings.log)?;
    let daemon =
        Daemon::start(plan, environment.broker, environment.registry, options).map_err(|error| stopped(&error))?;
    let daemon = Arc::new(daemon);
    let host = match listen(settings, info, &daemon) {
        Ok(host) => host,
        Err(failure) => {
            // A process that ends under its stream threads takes away what their stores stand on.
            daemon.request_stop();
            drop(daemon.join());
            return Err(failure);
        }
    };
    let (ended, end) = oneshot::channel();
    let watched = Arc::clone(&daemon);
    std::thread::spawn(move || {
        watched.wait_for_end();
        // Nobody listens any more when a signal came first.
        drop(ended.send(Ok(())));
    });
    let (outcome, watching) = host.wait(end);
    daemon.request_stop();
    let finished = daemon.join().map_err(|error| stopped(&error));
    watching.shutdown_background();
    match outcome {
        Ended::Requested => finished.map(|()| Exit::Ok),
        Ended::ByItself(failure) => {
            failure?;
            finished?;
            Err(Failure::new(Exit::Bug, "every stream thread ended by itself"))
        }
    }
}

/// Starts the listeners, and lets the daemon and the other instances know of each other.
fn listen(settings: &Settings, info: TopologyInfo, daemon: &Arc<Daemon>) -> Result<Host, Failure> {
    let host = Host::start(settings, info, Arc::clone(daemon) as _)?;
    daemon.asks_others_by(host.peers()?);
    if let Some(advertised) = host.advertised(settings) {
        daemon.serves_at(advertised);
    }
    Ok(host)
}
