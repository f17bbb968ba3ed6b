//! The promises of services inside the process, and of hosts. Services in processes of their
//! own are in `processes.rs`.
#![expect(clippy::panic, clippy::unwrap_used, reason = "tests")]

use std::sync::{Arc, Mutex};

use odeum_actors::config::Sources;
use odeum_actors::testing::eventually;
use odeum_actors::{
    ActorError, Backoff, Catalog, Change, Executor, Exit, Health, Host, HostConfig, Service,
    ServiceContext, ServiceSpec, Settings, Strategy, SupervisorSpec,
};
use serde::Deserialize;

type Log = Arc<Mutex<Vec<String>>>;

#[derive(Deserialize)]
struct Puppet {
    greeting: String,
    #[serde(skip)]
    log: Log,
}

impl Puppet {
    fn note(&self, what: &str, ctx: &str) {
        self.log.lock().unwrap().push(format!("{ctx} {what}"));
    }
}

impl Service for Puppet {
    async fn start(&mut self, ctx: &mut ServiceContext) -> Result<(), ActorError> {
        self.note("started", ctx.name());
        ctx.health(Health::Good).await;
        Ok(())
    }

    async fn run(&mut self, ctx: &mut ServiceContext) -> Result<(), ActorError> {
        ctx.send(self.greeting.clone().into_bytes()).await;
        while let Some(message) = ctx.receive().await {
            match message.as_slice() {
                b"panic" => panic!("as told"),
                b"fail" => return Err(ActorError::msg("as told")),
                _ => ctx.send(message).await,
            }
        }
        self.note("stopped", ctx.name());
        Ok(())
    }
}

fn catalog(log: &Log) -> Catalog {
    let log = Arc::clone(log);
    Catalog::new().with("puppet", move |settings: &Settings| {
        let puppet: Puppet = settings.read()?;
        Ok(Puppet { log: Arc::clone(&log), ..puppet })
    })
}

fn greeting() -> Settings {
    let mut settings = Settings::default();
    settings.0.insert("greeting".into(), "hello".into());
    settings
}

#[tokio::test]
async fn a_service_behaves_the_same_in_the_loop_and_on_a_thread() {
    for executor in [Executor::Async, Executor::Thread] {
        let log = Log::default();
        let spec = ServiceSpec::new("puppet", "puppet", executor).settings(greeting());
        let (service, child) = catalog(&log).service(spec).unwrap();
        let mut messages = service.messages();
        let root = SupervisorSpec::new("root", Strategy::OneForOne)
            .child(child.backoff(Backoff::immediate()))
            .start()
            .await
            .unwrap();
        let mut events = root.events();
        assert_eq!(&*messages.next().await.unwrap(), b"hello");
        service.send(b"echo".to_vec()).await.unwrap();
        assert_eq!(&*messages.next().await.unwrap(), b"echo");
        assert_eq!(service.health(), Health::Good);
        for (order, expected) in [
            ("panic", Exit::Panicked { reason: "as told".into() }),
            ("fail", Exit::Failed { reason: "as told".into() }),
        ] {
            service.send(order.into()).await.unwrap();
            let exit = loop {
                if let Change::Exited(exit) = events.next().await.unwrap().change {
                    break exit;
                }
            };
            assert_eq!(exit, expected, "{executor:?}");
            assert_eq!(&*messages.next().await.unwrap(), b"hello", "it is back");
            eventually("running", async || service.is_running()).await;
        }
        root.shutdown().await;
        assert_eq!(log.lock().unwrap().last().unwrap(), "puppet stopped");
        assert!(service.send(b"late".to_vec()).await.is_err());
    }
}

#[tokio::test]
async fn a_service_with_wrong_settings_or_of_an_unknown_kind_says_so() {
    let log = Log::default();
    let unknown = catalog(&log).service(ServiceSpec::new("x", "pupet", Executor::Async));
    let said = "there is no kind of service named pupet; did you mean puppet?";
    assert_eq!(unknown.unwrap_err().to_string(), said);
    let spec = ServiceSpec::new("x", "puppet", Executor::Async);
    let (_, child) = catalog(&log).service(spec).unwrap();
    let started = SupervisorSpec::new("root", Strategy::OneForOne).child(child).start().await;
    let said = started.unwrap_err().to_string();
    assert!(said.contains("missing field `greeting`"), "{said}");
}

const DESCRIPTION: &str = r#"
    name = "shop"
    [supervisors.back]
    strategy = "rest-for-one"
    [services.web]
    kind = "puppet"
    executor = "thread"
    depends-on = ["cache"]
    settings.greeting = "web"
    [services.cache]
    kind = "puppet"
    supervisor = "back"
    depends-on = ["store"]
    settings.greeting = "cache"
    [services.store]
    kind = "puppet"
    supervisor = "back"
    restart = "transient"
    backoff = { first = "0s" }
    settings.greeting = "store"
"#;

#[tokio::test]
async fn a_host_starts_services_after_what_they_depend_on_and_stops_them_before() {
    let log = Log::default();
    let sources = Sources::new("SHOP").file("shop.toml", DESCRIPTION);
    let config = sources.resolve::<HostConfig>().unwrap().config;
    let host = Host::new(&config, &catalog(&log)).unwrap().start().await.unwrap();
    let tree = host.root().tree().await.to_string();
    let drawn = "shop (running)\n├─ back (running)\n│  ├─ store (running)\n\
                 │  └─ cache (running)\n└─ web (running)";
    assert_eq!(tree, drawn);
    let store = host.service("store").unwrap();
    store.send(b"fail".to_vec()).await.unwrap();
    eventually("the rest restarted too", async || {
        log.lock().unwrap().iter().filter(|line| *line == "cache started").count() == 2
    })
    .await;
    host.shutdown().await;
    let mut log = log.lock().unwrap().clone();
    let end = log.split_off(log.len() - 3);
    assert_eq!(log[..3], ["store started", "cache started", "web started"]);
    assert_eq!(end, ["web stopped", "cache stopped", "store stopped"]);
}

#[tokio::test]
async fn a_host_stops_in_order_on_sigterm() {
    let log = Log::default();
    let config: HostConfig = toml::from_str(DESCRIPTION).unwrap();
    let host = Host::new(&config, &catalog(&log)).unwrap().start().await.unwrap();
    let terminate = async {
        // `run` is polled first and has its handlers: without, the signal would end this
        // process.
        let me = rustix::process::getpid();
        rustix::process::kill_process(me, rustix::process::Signal::TERM).unwrap();
    };
    let (exit, ()) = tokio::join!(host.run(), terminate);
    assert_eq!(exit.unwrap(), Exit::Shutdown);
    assert_eq!(log.lock().unwrap().last().unwrap(), "store stopped");
}
