//! A node's data folder: whose it is, that nobody else uses it, and how often it was started.
//!
//! `node.toml` says it in text, so that a person can read it. It is replaced whole (temporary
//! file, sync, rename, sync of the folder), so a crash leaves the old or the new one. The lock is
//! on a file of its own, because a replaced file would take its lock with it.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use odeum_proto::{ClusterId, DiskId, Incarnation, NodeId};
use serde::{Deserialize, Serialize};

use super::lock::lock_patiently;

/// Format of the folder. Another one is refused, whatever else the file says.
const VERSION: u32 = 1;

const NODE: &str = "node.toml";
const LOCK: &str = "lock";

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Another process uses it. Stop that, or give this node its own folder.
    #[error(
        "the data folder {} is in use{}: stop that node, or choose another folder with --data-dir",
        dir.display(), by_process(*pid)
    )]
    InUse {
        /// The folder.
        dir: PathBuf,
        /// The process that uses it, if it said so.
        pid: Option<u32>,
    },
    /// No node has ever used it. Name the folder that a node was given with `--data-dir`.
    #[error("{} is no data folder of a node", dir.display())]
    Missing {
        /// The folder.
        dir: PathBuf,
    },
    /// It belongs to another node. Start that node, or use another folder.
    #[error(
        "the data folder {} belongs to node {is}, not to {claimed}: start it with --node {is}, or \
         choose another folder with --data-dir", dir.display()
    )]
    OtherNode {
        /// The folder.
        dir: PathBuf,
        /// Whose it is.
        is: NodeId,
        /// Who wanted it.
        claimed: NodeId,
    },
    /// It belongs to another cluster. Use an empty folder to join a new one.
    #[error(
        "the data folder {} belongs to cluster {is}, not to {claimed}: to join that one, choose \
         another folder with --data-dir", dir.display()
    )]
    OtherCluster {
        /// The folder.
        dir: PathBuf,
        /// Whose it is.
        is: ClusterId,
        /// Who wanted it.
        claimed: ClusterId,
    },
    /// Another version of Odeum wrote it. Use that version.
    #[error("{} has format {found}, this version uses format {ours}", file.display())]
    Version {
        /// The file that says so.
        file: PathBuf,
        /// Its format.
        found: u64,
        /// Ours.
        ours: u32,
    },
    /// The description of the folder is damaged. Restore it.
    #[error("{}:{line}: {reason}", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        reason: Box<str>,
    },
    /// The operating system refused.
    #[error("{operation} {} failed: {source}", file.display())]
    Io {
        /// What was to be done.
        operation: &'static str,
        /// To which file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn by_process(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" by process {pid}"))
}

fn io_error(operation: &'static str, file: &Path) -> impl FnOnce(io::Error) -> FolderError {
    let file = file.to_owned();
    move |source| FolderError::Io { operation, file, source }
}

/// What `node.toml` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    format: u32,
    node: NodeId,
    /// Ids as text: a UUID is bytes to formats that do not call themselves human readable, and
    /// must not depend on that here.
    disk: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    incarnation: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    left: bool,
}

/// An open data folder. No other process can open it until this is dropped.
#[derive(Debug)]
pub struct DataFolder {
    dir: PathBuf,
    node: NodeId,
    disk: DiskId,
    cluster: Option<ClusterId>,
    incarnation: Incarnation,
    left: bool,
    /// Unlocks when it is dropped, or when the process dies in whatever way.
    _lock: File,
}

impl DataFolder {
    /// Opens `dir` for `node`, which makes it if it is not there. Each opening is a new
    /// incarnation, on the disk before this returns. Blocks on the disk.
    ///
    /// # Errors
    /// [`FolderError`] when the folder is in use, another node's, of another format or damaged.
    pub fn open(dir: &Path, node: &NodeId) -> Result<Self, FolderError> {
        fs::create_dir_all(dir).map_err(io_error("making", dir))?;
        let lock = lock(dir)?;
        let file = dir.join(NODE);
        let mut folder = match fs::read_to_string(&file) {
            Ok(text) => Self::described(dir, &file, &text, node, lock)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self {
                dir: dir.to_owned(),
                node: node.clone(),
                disk: DiskId::random(),
                cluster: None,
                incarnation: Incarnation::default(),
                left: false,
                _lock: lock,
            },
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(FolderError::Damaged { file, line: 1, reason: "not text".into() });
            }
            Err(error) => return Err(io_error("reading", &file)(error)),
        };
        folder.incarnation = folder.incarnation.next();
        folder.save()?;
        Ok(folder)
    }

    /// Whose folder `dir` is, when that can be read; [`open`](Self::open) says what is wrong when
    /// it cannot.
    #[must_use]
    pub fn owner(dir: &Path) -> Option<NodeId> {
        let text = fs::read_to_string(dir.join(NODE)).ok()?;
        toml::from_str::<Description>(&text).ok().map(|description| description.node)
    }

    /// The cluster that the node of folder `dir` belongs to, as [`owner`](Self::owner).
    #[must_use]
    pub fn cluster_of(dir: &Path) -> Option<ClusterId> {
        let text = fs::read_to_string(dir.join(NODE)).ok()?;
        toml::from_str::<Description>(&text).ok()?.cluster?.parse().ok()
    }

    /// Holds the folder of a node that does not run, for who only looks: nothing in it is changed,
    /// and its node cannot start meanwhile.
    ///
    /// # Errors
    /// [`FolderError::InUse`] when the node runs, [`FolderError::Missing`] when there is no folder of
    /// a node; others when its description is damaged.
    pub fn inspect(dir: &Path) -> Result<Self, FolderError> {
        let (path, file) = (dir.join(LOCK), dir.join(NODE));
        let missing = |error: io::Error, path: &Path| match error.kind() {
            io::ErrorKind::NotFound => FolderError::Missing { dir: dir.to_owned() },
            _ => io_error("opening", path)(error),
        };
        let lock = File::open(&path).map_err(|error| missing(error, &path))?;
        match lock_patiently(&lock) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use(dir)),
            Err(TryLockError::Error(source)) => return Err(io_error("locking", &path)(source)),
        }
        let text = fs::read(&file).map_err(|error| missing(error, &file))?;
        let text = String::from_utf8_lossy(&text);
        // Where it does not say whose it is, what is wrong with it is said below.
        let named = toml::from_str::<Description>(&text).map(|description| description.node);
        let node = named
            .or_else(|_| "unknown".parse())
            .map_err(|_| FolderError::Missing { dir: dir.to_owned() })?;
        Self::described(dir, &file, &text, &node, lock)
    }

    fn described(
        dir: &Path,
        file: &Path,
        text: &str,
        node: &NodeId,
        lock: File,
    ) -> Result<Self, FolderError> {
        let damaged = |line: usize, reason: String| FolderError::Damaged {
            file: file.to_owned(),
            line,
            reason: reason.into(),
        };
        check_format(file, text)?;
        let description: Description = toml::from_str(text)
            .map_err(|error| damaged(line_of(text, error.span()), error.message().to_owned()))?;
        let at = |key: &str, reason: String| damaged(line_of_key(text, key), reason);
        let disk = description.disk.parse().map_err(|e| at("disk", format!("disk: {e}")))?;
        let cluster = description.cluster.as_deref().map(str::parse).transpose();
        let cluster = cluster.map_err(|e| at("cluster", format!("cluster: {e}")))?;
        if description.node != *node {
            return Err(FolderError::OtherNode {
                dir: dir.to_owned(),
                is: description.node,
                claimed: node.clone(),
            });
        }
        Ok(Self {
            dir: dir.to_owned(),
            node: node.clone(),
            disk,
            cluster,
            incarnation: Incarnation(description.incarnation),
            left: description.left,
            _lock: lock,
        })
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whose it is.
    #[must_use]
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// Its identity, made with it.
    #[must_use]
    pub fn disk(&self) -> DiskId {
        self.disk
    }

    /// The cluster that its node belongs to, once it has founded or joined one.
    #[must_use]
    pub fn cluster(&self) -> Option<ClusterId> {
        self.cluster
    }

    /// How often it was opened: this opening is the latest life of its node.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Records, once and for good, the cluster that the node belongs to; on the disk when it
    /// returns. Blocks on the disk.
    ///
    /// # Errors
    /// [`FolderError::OtherCluster`] when it belongs to another one.
    pub fn set_cluster(&mut self, claimed: ClusterId) -> Result<(), FolderError> {
        match self.cluster {
            Some(is) if is == claimed => Ok(()),
            Some(is) => Err(FolderError::OtherCluster { dir: self.dir.clone(), is, claimed }),
            None => {
                self.cluster = Some(claimed);
                self.save()
            }
        }
    }

    /// Whether its node has left its cluster and was not taken in again since.
    #[must_use]
    pub fn left(&self) -> bool {
        self.left
    }

    /// Records that its node has left its cluster, or was taken in again; on the disk when it
    /// returns. Blocks on the disk.
    ///
    /// # Errors
    /// [`FolderError::Io`] when it cannot be written.
    pub fn set_left(&mut self, left: bool) -> Result<(), FolderError> {
        if self.left == left {
            return Ok(());
        }
        self.left = left;
        self.save()
    }

    fn save(&self) -> Result<(), FolderError> {
        let file = self.dir.join(NODE);
        let description = Description {
            format: VERSION,
            node: self.node.clone(),
            disk: self.disk.to_string(),
            cluster: self.cluster.map(|cluster| cluster.to_string()),
            incarnation: self.incarnation.0,
            left: self.left,
        };
        let text = toml::to_string(&description).map_err(io::Error::other);
        let saved = text.and_then(|text| {
            let temporary = file.with_extension("tmp");
            let mut new = File::create(&temporary)?;
            new.write_all(text.as_bytes())?;
            new.sync_all()?;
            fs::rename(&temporary, &file)?;
            File::open(&self.dir)?.sync_all()
        });
        saved.map_err(io_error("writing", &file))
    }
}

/// Locks the folder and leaves the process id in the lock file, for the error of the next one.
fn lock(dir: &Path) -> Result<File, FolderError> {
    let path = dir.join(LOCK);
    let opened = File::options().create(true).truncate(false).read(true).write(true).open(&path);
    let mut file = opened.map_err(io_error("opening", &path))?;
    match lock_patiently(&file) {
        Ok(()) => {
            let written = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
            written.map_err(io_error("writing", &path))?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => Err(in_use(dir)),
        Err(TryLockError::Error(source)) => Err(io_error("locking", &path)(source)),
    }
}

fn in_use(dir: &Path) -> FolderError {
    // Only for the message, and the holder may not have written it yet.
    let pid = fs::read_to_string(dir.join(LOCK)).ok().and_then(|pid| pid.trim().parse().ok());
    FolderError::InUse { dir: dir.to_owned(), pid }
}

/// Another format may have any fields, so its number is looked at before them.
fn check_format(file: &Path, text: &str) -> Result<(), FolderError> {
    #[derive(Deserialize)]
    struct Format {
        format: u64,
    }
    match toml::from_str::<Format>(text) {
        Ok(Format { format: found }) if found != u64::from(VERSION) => {
            Err(FolderError::Version { file: file.to_owned(), found, ours: VERSION })
        }
        // What is wrong with the text is said by whoever reads all of it.
        _ => Ok(()),
    }
}

fn line_of(text: &str, span: Option<std::ops::Range<usize>>) -> usize {
    let before = span.and_then(|span| text.get(..span.start)).unwrap_or_default();
    before.matches('\n').count() + 1
}

fn line_of_key(text: &str, key: &str) -> usize {
    text.lines().position(|line| line.trim_start().starts_with(key)).map_or(1, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn node(id: &str) -> NodeId {
        id.parse().expect("valid")
    }

    #[test]
    fn every_opening_is_a_later_life_of_the_same_disk() {
        let dir = TempDir::new().expect("made");
        let first = DataFolder::open(&dir.path().join("data"), &node("n1")).expect("opens");
        let (disk, incarnation) = (first.disk(), first.incarnation());
        drop(first);
        let second = DataFolder::open(&dir.path().join("data"), &node("n1")).expect("opens");
        assert_eq!(second.disk(), disk);
        assert_eq!(second.incarnation(), incarnation.next());
        assert_eq!(second.cluster(), None);
    }

    #[test]
    fn two_at_once_are_refused_and_the_folder_and_process_are_named() {
        let dir = TempDir::new().expect("made");
        let _first = DataFolder::open(dir.path(), &node("n1")).expect("opens");
        let error = DataFolder::open(dir.path(), &node("n1")).expect_err("in use").to_string();
        assert!(error.contains(&dir.path().display().to_string()), "{error}");
        assert!(error.contains(&format!("by process {}", std::process::id())), "{error}");
    }

    #[test]
    fn another_node_is_refused_and_changes_nothing() {
        let dir = TempDir::new().expect("made");
        drop(DataFolder::open(dir.path(), &node("n1")).expect("opens"));
        let before = fs::read(dir.path().join(NODE)).expect("read");
        let error = DataFolder::open(dir.path(), &node("n2")).expect_err("another's").to_string();
        assert!(error.contains("belongs to node n1, not to n2"), "{error}");
        assert_eq!(fs::read(dir.path().join(NODE)).expect("read"), before);
    }

    #[test]
    fn the_cluster_is_set_once() {
        let dir = TempDir::new().expect("made");
        let (ours, other) = (ClusterId::random(), ClusterId::random());
        let mut folder = DataFolder::open(dir.path(), &node("n1")).expect("opens");
        folder.set_cluster(ours).expect("set");
        folder.set_cluster(ours).expect("set already");
        assert!(matches!(folder.set_cluster(other), Err(FolderError::OtherCluster { .. })));
        drop(folder);
        let folder = DataFolder::open(dir.path(), &node("n1")).expect("opens");
        assert_eq!(folder.cluster(), Some(ours));
    }

    #[test]
    fn that_a_node_has_left_is_known_until_it_is_taken_in_again() {
        let dir = TempDir::new().expect("made");
        let opened = || DataFolder::open(dir.path(), &node("n1")).expect("opens");
        let mut folder = opened();
        assert!(!folder.left());
        folder.set_left(true).expect("set");
        drop(folder);
        let mut folder = opened();
        assert!(folder.left());
        folder.set_left(false).expect("set");
        drop(folder);
        assert!(!opened().left());
    }

    #[test]
    fn a_damaged_description_is_refused_with_file_and_line() {
        let dir = TempDir::new().expect("made");
        let file = dir.path().join(NODE);
        let disk = "disk = \"00000000-0000-4000-8000-000000000000\"";
        let cases = [
            (String::new(), 1),
            (format!("format = 1\nnode = \"n1\"\n{disk}\nincarnation = \"one\"\n"), 4),
            (format!("format = 1\nnode = \"N 1\"\n{disk}\nincarnation = 1\n"), 2),
            ("format = 1\nnode = \"n1\"\ndisk = \"x\"\nincarnation = 1\n".to_owned(), 3),
            (format!("format = 1\nnode = \"n1\"\n{disk}\nincarnation = 1\nmore = 2\n"), 5),
            ("format = 1\nnode = \"n1\"\n\u{0}\u{0}".to_owned(), 3),
        ];
        for (text, line) in cases {
            fs::write(&file, &text).expect("written");
            let error = DataFolder::open(dir.path(), &node("n1")).expect_err("damaged");
            let start = format!("{}:{line}: ", file.display());
            assert!(error.to_string().starts_with(&start), "{error} for {text:?}");
        }
        fs::write(&file, [0xff, 0xfe]).expect("written");
        let error = DataFolder::open(dir.path(), &node("n1")).expect_err("damaged");
        assert!(matches!(error, FolderError::Damaged { .. }), "{error}");
    }

    #[test]
    fn another_format_is_refused_whatever_else_it_says() {
        let dir = TempDir::new().expect("made");
        fs::write(dir.path().join(NODE), "format = 2\nnew = true\n").expect("written");
        let error = DataFolder::open(dir.path(), &node("n1")).expect_err("newer").to_string();
        assert!(error.contains("format 2") && error.contains("format 1"), "{error}");
    }
}
