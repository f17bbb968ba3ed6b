//! What guests are tried out with: a setting, a session, ears for what is logged.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use odeum_proto::store::FirmwareLimits;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

use super::compile;
use crate::firmware::{
    Engine, Grants, GuestFailure, GuestLog, Hint, Instance, Module, Publisher, Setting, Usage,
    Variables, run_job,
};

struct Session(BTreeMap<&'static str, &'static str>);

impl Variables for Session {
    fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.0.get(key).map(|value| value.as_bytes().to_vec())
    }
}

pub(super) fn session(variables: &[(&'static str, &'static str)]) -> Arc<dyn Variables> {
    Arc::new(Session(variables.iter().copied().collect()))
}

pub(super) fn setting() -> Setting {
    granting(Grants::default())
}

pub(super) fn granting(grants: Grants) -> Setting {
    Setting {
        firmware: "guest".parse().expect("valid"),
        log: GuestLog::alone("guest".parse().expect("valid")),
        limits: FirmwareLimits { memory_bytes: 4 << 20, message_time: Duration::from_millis(200) },
        grants: Arc::new(grants),
        usage: Usage::default(),
    }
}

/// The module of a file, with these lines in its manifest.
pub(super) async fn compiled(file: impl AsRef<[u8]>, manifest: &str) -> Module {
    let engine = Engine::new().expect("an engine");
    compile(&engine, manifest, file).await.expect("compiles")
}

/// An instance of a text module, within [`setting`].
pub(super) async fn started(
    file: impl AsRef<[u8]>,
    manifest: &str,
) -> Result<Instance, GuestFailure> {
    let module = compiled(file, manifest).await;
    Instance::start(&module, &setting(), Publisher::none()).await
}

/// Runs a module to its end.
pub(super) async fn ran(
    file: impl AsRef<[u8]>,
    manifest: &str,
    setting: &Setting,
) -> Result<(i32, Hint), GuestFailure> {
    run_job(&compiled(file, manifest).await, setting).await
}

/// Hears what this thread logs, until it is dropped.
pub(super) struct Ears {
    heard: Arc<Mutex<Vec<u8>>>,
    _guard: DefaultGuard,
}

impl Ears {
    pub(super) fn open() -> Self {
        let heard = Arc::<Mutex<Vec<u8>>>::default();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::TRACE)
            .with_writer(Into(Arc::clone(&heard)))
            .finish();
        Self { heard, _guard: tracing::subscriber::set_default(subscriber) }
    }

    pub(super) fn heard(&self) -> String {
        let heard = self.heard.lock().expect("not poisoned");
        String::from_utf8(heard.clone()).expect("text")
    }

    /// The lines that have this in them.
    pub(super) fn lines(&self, with: &str) -> Vec<String> {
        self.heard().lines().filter(|line| line.contains(with)).map(str::to_owned).collect()
    }
}

struct Into(Arc<Mutex<Vec<u8>>>);

impl MakeWriter<'_> for Into {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl io::Write for Into {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("not poisoned").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
