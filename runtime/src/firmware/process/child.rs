//! The host process itself: `odeum host`.
//!
//! In the order that matters: what was inherited is closed and the death of the node is made its own;
//! the node says what to run; the process shuts itself in while it still has one thread, because the
//! kernel shuts in threads; only then is anything of the guest touched. A thread reads orders, so that
//! a guest that waits for a variable gets it whatever the others do, and ends the process with the
//! stream.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::{fd::AsFd as _, unix::net::UnixStream},
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError, mpsc as blocking},
    thread,
};

use bytes::Bytes;
use odeum_proto::http::{HttpAnswer, HttpRequest};
use rustix::process::{Signal, set_parent_process_death_signal};
use tokio::{sync::mpsc, task::JoinSet};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{filter::Targets, layer::SubscriberExt as _};

use super::{
    artifact, log, raw,
    sandbox::{self, Needs},
    wire::{self, Handled, Order, Outcome, Report, Setup, VERSION, Work},
};
use crate::{
    firmware::{
        abi::Kind,
        bridge::{Publication, Publisher},
        chronicle::GuestLog,
        effect::Variables,
        engine::Engine,
        error::GuestFailure,
        instance::Instance,
        job,
        module::{Compiled, Linked, Module},
        setting::{Grants, Setting},
        usage::Usage,
    },
    package::manifest::Manifest,
    tls::Authorities,
};

/// Orders that wait: the node has no more requests under way at once.
const QUEUE: usize = 2 * super::REQUESTS;

/// Publications of one message that wait to be sent: as many as wait for the broker.
const PUBLICATIONS: usize = 256;

/// Threads that run guests: one guest, and what its timers need; or several requests.
const WORKERS: usize = 2;
const MOST_WORKERS: usize = 8;

/// Threads for files and names at once.
const BLOCKING: usize = 16;

/// Exit codes: the node is gone or broke off, the host could not begin.
const NODE_GONE: i32 = 0;
const CANNOT: u8 = 1;

/// Runs what the node at the other end of standard input says, to its end.
#[must_use]
pub fn serve() -> ExitCode {
    match begin() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The node tells it as this process's last words.
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::from(CANNOT)
        }
    }
}

fn begin() -> io::Result<()> {
    // Older kernels cannot; what a node opens is closed for its children, too.
    let _ = raw::close_inherited();
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // How `ps` and `top` show it; an error means an odd `/proc`.
    let _ = fs::write("/proc/self/comm", "odeum-host");
    let compiled = artifact::received(io::stdout().as_fd().try_clone_to_owned()?)?;
    let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let node = Arc::new(Node { stream: Mutex::new(stream.try_clone()?) });
    node.tell(&Report::Hello { version: VERSION, pid: std::process::id() });
    let setup = match wire::read(&stream).map_err(io::Error::other)? {
        Some(Order::Setup(setup)) => *setup,
        // A node that has died while it started this one.
        None => return Ok(()),
        Some(_) => return Err(io::Error::other("the node did not say first what to run")),
    };
    let manifest = Manifest::parse(setup.manifest.as_bytes()).map_err(io::Error::other)?;
    let setting = setting(&setup)?;
    let cores = thread::available_parallelism().map_or(WORKERS, usize::from);
    let lacks = sandbox::enter(&Needs::of(&manifest, &setting, setup.instances));
    listen(&node, &setup.log);
    let start = Start { setup, setting, manifest, compiled, lacks, node };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.clamp(WORKERS, MOST_WORKERS))
        .max_blocking_threads(BLOCKING)
        .enable_all()
        .build()?;
    let ended = runtime.block_on(run(start, stream));
    // A thread that waits for a file is not waited for.
    runtime.shutdown_background();
    ended
}

fn setting(setup: &Setup) -> io::Result<Setting> {
    let folders = setup.folders.iter().map(|it| it.parse()).collect::<Result<_, _>>();
    let environment = setup.environment.iter().map(|it| it.parse()).collect::<Result<_, _>>();
    let grants = Grants {
        folders: folders.map_err(io::Error::other)?,
        environment: environment.map_err(io::Error::other)?,
        authorities: Authorities::only(setup.authorities.iter().map(|it| it.to_vec()).collect()),
        broker: None,
    };
    let (firmware, limits) = (setup.firmware.clone(), setup.limits.clone());
    // What is said goes to the node, which keeps it.
    let log = GuestLog::alone(firmware.clone());
    Ok(Setting { firmware, log, limits, grants: Arc::new(grants), usage: Usage::default() })
}

/// Sends what is logged to the node.
fn listen(node: &Arc<Node>, quietest: &str) {
    let level = quietest.parse().unwrap_or(LevelFilter::INFO);
    // The node keeps all that the guest says, whatever it logs of that.
    let level = Targets::new().with_default(level).with_target(log::GUEST, LevelFilter::TRACE);
    let node = Arc::clone(node);
    let forward = log::Forward(move |line| node.tell(&Report::Log(line)));
    // Nothing else has been set up in a process that has just begun.
    let _ = tracing::subscriber::set_global_default(
        tracing_subscriber::registry().with(level).with(forward),
    );
}

/// The node at the other end.
struct Node {
    stream: Mutex<UnixStream>,
}

impl Node {
    /// Writes a report whole. A guest that reports faster than the node reads waits here.
    fn tell(&self, report: &Report) {
        // Over a panic in the middle of a frame there would be nothing left to save.
        let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        if wire::write(&*stream, report).is_err() {
            std::process::exit(NODE_GONE);
        }
    }
}

/// What a host begins with.
struct Start {
    setup: Setup,
    setting: Setting,
    manifest: Manifest,
    compiled: File,
    lacks: Vec<String>,
    node: Arc<Node>,
}

/// What there is to do, with the number that its outcome is told by.
type Orders = mpsc::Receiver<(u64, Work)>;

async fn run(start: Start, stream: UnixStream) -> io::Result<()> {
    let Start { setup, setting, manifest, compiled, lacks, node } = start;
    let (works, orders) = mpsc::channel(QUEUE);
    let (values, answers) = blocking::sync_channel(1);
    thread::Builder::new().name("orders".to_owned()).spawn(move || read(stream, works, values))?;
    let compiled = match setup.is_component {
        true => Compiled::Component(artifact::bytes(&compiled)?),
        false => Compiled::Module(compiled),
    };
    let engine = Engine::new().map_err(io::Error::other)?;
    let module =
        Module::of_compiled(&engine, setup.digest, manifest, compiled).map_err(io::Error::other)?;
    let host = Host { module, setting, node, has_broker: setup.has_broker };
    match host.module.kind() {
        Kind::Messages => host.messages(orders, lacks, answers).await,
        Kind::Job => host.job(orders, lacks).await,
        Kind::Http => host.requests(orders, lacks).await,
    }
    Ok(())
}

/// Reads orders until the node is gone, and the process with it.
fn read(
    stream: UnixStream,
    works: mpsc::Sender<(u64, Work)>,
    values: blocking::SyncSender<Option<Bytes>>,
) {
    let mut stream = io::BufReader::new(stream);
    while let Ok(Some(order)) = wire::read(&mut stream) {
        let is_taken = match order {
            Order::Work { number, work } => works.blocking_send((number, work)).is_ok(),
            Order::Variable { value } => values.send(value).is_ok(),
            Order::Setup(_) => false,
        };
        if !is_taken {
            break;
        }
    }
    std::process::exit(NODE_GONE);
}

/// Runs one module.
struct Host {
    module: Module,
    setting: Setting,
    node: Arc<Node>,
    has_broker: bool,
}

impl Host {
    fn done(&self, number: u64, outcome: Outcome) {
        self.node.tell(&Report::Done { number, outcome });
    }

    fn ready(&self, memory_bytes: u64, lacks: Vec<String>) {
        self.node.tell(&Report::Ready { memory_bytes, lacks });
    }

    async fn messages(
        self,
        mut orders: Orders,
        lacks: Vec<String>,
        answers: blocking::Receiver<Option<Bytes>>,
    ) {
        let (publisher, mut published) = match self.has_broker {
            true => {
                let (publisher, published) = Publisher::queue(PUBLICATIONS);
                (publisher, Some(published))
            }
            false => (Publisher::none(), None),
        };
        let mut send = || {
            while let Some(Publication { topic, payload }) =
                published.as_mut().and_then(|published| published.try_recv().ok())
            {
                self.node.tell(&Report::Published { topic, payload: payload.into() });
            }
        };
        let mut instance = match Instance::start(&self.module, &self.setting, publisher).await {
            Ok(instance) => instance,
            Err(failure) => return self.node.tell(&Report::NotReady(failure)),
        };
        send();
        self.ready(instance.memory_bytes(), lacks);
        let variables: Arc<dyn Variables> =
            Arc::new(Asked { node: Arc::clone(&self.node), answers: Mutex::new(answers) });
        while let Some((number, work)) = orders.recv().await {
            match work {
                Work::Handle(happening) => {
                    let handled = instance.handle(happening.arrival(), Arc::clone(&variables));
                    let handled = handled.await;
                    send();
                    match handled {
                        Ok((next, answer)) => {
                            instance = next;
                            let memory_bytes = instance.memory_bytes();
                            let handled = Handled { memory_bytes, answer: answer.into() };
                            self.done(number, Outcome::Handled(Ok(handled)));
                        }
                        Err(failure) => {
                            // The instance is gone, and this process is for no other.
                            return self.done(number, Outcome::Handled(Err(failure)));
                        }
                    }
                }
                Work::End => {
                    instance.end().await;
                    send();
                    return self.done(number, Outcome::Ended);
                }
                Work::Run => return self.done(number, Outcome::Ran(Err(self.other_kind()))),
                Work::Serve(_) => self.done(number, Outcome::Served(Err(self.other_kind()))),
            }
        }
    }

    async fn job(self, mut orders: Orders, lacks: Vec<String>) {
        self.ready(0, lacks);
        if let Some((number, _)) = orders.recv().await {
            let ended = job::run(&self.module, &self.setting).await;
            self.done(number, Outcome::Ran(ended));
        }
    }

    async fn requests(self, mut orders: Orders, lacks: Vec<String>) {
        self.ready(0, lacks);
        let (host, mut requests) = (Arc::new(self), JoinSet::new());
        while let Some((number, work)) = orders.recv().await {
            while requests.try_join_next().is_some() {}
            let Work::Serve(request) = work else { break };
            let host = Arc::clone(&host);
            requests.spawn(async move {
                let served = host.serve(request).await;
                host.done(number, Outcome::Served(served));
            });
        }
    }

    async fn serve(&self, request: HttpRequest) -> Result<HttpAnswer, GuestFailure> {
        match self.module.linked() {
            Linked::Http(service) => {
                service.serve(self.module.manifest(), &self.setting, request).await
            }
            _ => Err(self.other_kind()),
        }
    }

    fn other_kind(&self) -> GuestFailure {
        GuestFailure::OtherKind { kind: self.module.kind() }
    }
}

/// Variables of the message at hand, asked of the node one by one while the guest waits.
struct Asked {
    node: Arc<Node>,
    answers: Mutex<blocking::Receiver<Option<Bytes>>>,
}

impl Variables for Asked {
    fn get(&self, key: &str) -> Option<Vec<u8>> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        self.node.tell(&Report::GetVariable { key: key.to_owned() });
        // The thread that reads ends the process when there is nothing more to come.
        answers.recv().ok().flatten().map(Vec::from)
    }
}
