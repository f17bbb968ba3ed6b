//! A node's process as the tests hold it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::str::FromStr;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::PATIENCE;
use super::process::{NODE, Start};
use super::traffic::Tally;

/// A process that is killed when the test ends, however it ends.
pub(crate) struct Node {
    process: Child,
    input: ChildStdin,
    answers: mpsc::Receiver<String>,
    log: PathBuf,
    pub(crate) start: Start,
    /// Where it listens.
    pub(crate) addr: SocketAddr,
}

impl Node {
    /// Starts a process by `command`, which is to run this test's binary, and waits until it is a
    /// member of its cluster.
    pub(crate) fn start(mut command: Command, start: Start, log: PathBuf) -> Self {
        let mut process = command
            .args(["--exact", "process::the_process_of_a_node", "--nocapture", "--ignored"])
            .env(NODE, start.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).expect("a log"))
            .spawn()
            .expect("the node starts");
        let input = process.stdin.take().expect("piped");
        let output = BufReader::new(process.stdout.take().expect("piped"));
        let (sender, answers) = mpsc::channel();
        // Ends with the process. On a thread, so that a node that hangs is no test that hangs.
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                // Past what the test harness prints.
                if let Some((_, answer)) = line.split_once("> ")
                    && sender.send(answer.to_owned()).is_err()
                {
                    return;
                }
            }
        });
        let addr = start.listen;
        let mut node = Self { process, input, answers, log, start, addr };
        node.addr = node.answer(PATIENCE).parse().expect("an address");
        node
    }

    pub(crate) fn name(&self) -> &str {
        &self.start.name
    }

    fn answer(&self, within: Duration) -> String {
        self.answers.recv_timeout(within).unwrap_or_else(|error| {
            panic!("{} does not answer: {error}\n{}", self.name(), self.last_words())
        })
    }

    /// Gives it a command and waits for the answer.
    pub(crate) fn tell(&mut self, command: &str) -> String {
        writeln!(self.input, "{command}").expect("it listens");
        self.answer(PATIENCE)
    }

    /// As [`tell`](Self::tell), for answers that are values.
    pub(crate) fn ask<T: FromStr<Err = String>>(&mut self, command: &str) -> T {
        let answer = self.tell(command);
        answer.parse().unwrap_or_else(|error| panic!("{} of {command}: {error}", self.name()))
    }

    /// Ends its traffic.
    pub(crate) fn settle(&mut self) -> Tally {
        self.ask("settle")
    }

    fn pid(&self) -> Pid {
        i32::try_from(self.process.id()).ok().and_then(Pid::from_raw).expect("a process id")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it runs");
    }

    /// Whether it runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.process.try_wait().expect("a child").is_none()
    }

    /// What it logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn last_words(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        let last = lines.get(lines.len().saturating_sub(60)..).unwrap_or_default().join("\n");
        format!("--- {} ---\n{last}\n", self.name())
    }

    /// The memory that it has now, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most memory that it ever had, in bytes.
    pub(crate) fn most_memory(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// A size that the kernel knows of the process.
    fn status(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kib.and_then(|kib| kib.parse::<u64>().ok()).map_or(0, |kib| kib << 10)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // SIGKILL, which also ends a process that is stopped. It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
