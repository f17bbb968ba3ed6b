//! A guest of `odeum:actor`: does to others what its messages say.
//!
//! | message | |
//! |---|---|
//! | `add N` | adds to the variable `count`, replies it |
//! | `get NAME` | replies a variable, or nothing |
//! | `tell TO TEXT` | sends TEXT to another firmware |
//! | `ask TO TEXT` | sends TEXT; the outcome becomes the variable `answer` |
//! | `after MS TEXT` | that much later TEXT becomes the variable `timer` |
//! | `cancel` | takes the last timer back, replies whether it was set |
//! | `timers N` | sets N timers of a day, replies how many could be |
//! | `subscribe TOPIC` | what is published there becomes the variable `heard` |
//! | `publish TOPIC TEXT` | publishes |
//! | `now`, `random`, `name`, `config KEY` | replies that |
//! | `large N` | replies N bytes |
//! | `sick TEXT` | is not well from now on, and says why |
//! | `refuse`, `trap`, `spin` | refuses, traps, never ends, each after setting `count` to 1000 |

use std::cell::RefCell;

wit_bindgen::generate!({ path: "../../../runtime/wit/odeum-actor.wit", world: "watched-actor" });

use exports::odeum::actor::guest::{Guest, Message};
use exports::odeum::actor::liveness;
use odeum::actor::host::{self, Level, Refusal};

struct Actor;

export!(Actor);

/// What each timer that is set writes when it runs out.
static TIMERS: Timers = Timers(RefCell::new(Vec::new()));

/// Why it is not well.
static SICK: Sick = Sick(RefCell::new(None));

struct Sick(RefCell<Option<String>>);

// SAFETY: a guest has one thread.
unsafe impl Sync for Sick {}

impl liveness::Guest for Actor {
    fn alive() -> Result<(), String> {
        match &*SICK.0.borrow() {
            Some(reason) if reason == "spin" => loop {
                std::hint::black_box(0);
            },
            Some(reason) if reason == "write" => set("count", "1000"),
            Some(reason) => Err(reason.clone()),
            None => Ok(()),
        }
    }
}

struct Timers(RefCell<Vec<(u64, String)>>);

// SAFETY: a guest has one thread.
unsafe impl Sync for Timers {}

impl Guest for Actor {
    fn on_start() -> Result<(), String> {
        if host::config("START").as_deref() == Some("fail") {
            return Err("as told".to_owned());
        }
        host::log(Level::Info, "started");
        set("started", "yes")
    }

    fn on_message(message: Message) -> Result<(), String> {
        match message {
            Message::Call(body) => call(&String::from_utf8_lossy(&body)),
            Message::Answered(it) => match it.outcome {
                Ok(reply) => set("answer", &String::from_utf8_lossy(&reply)),
                Err(reason) => set("answer", &format!("error: {reason}")),
            },
            Message::Published(it) => set(
                "heard",
                &format!("{}: {}", it.topic, String::from_utf8_lossy(&it.payload)),
            ),
        }
    }

    fn on_timer(timer: u64) -> Result<(), String> {
        let mut timers = TIMERS.0.borrow_mut();
        let at = timers.iter().position(|(number, _)| *number == timer);
        let (_, text) = timers.remove(at.ok_or("no such timer")?);
        set("timer", &text)
    }

    fn on_stop() {
        host::log(Level::Info, "stopped");
    }
}

fn call(message: &str) -> Result<(), String> {
    let mut words = message.splitn(3, ' ');
    let mut word = || words.next().unwrap_or_default().to_owned();
    let (verb, first, rest) = (word(), word(), word());
    match verb.as_str() {
        "add" => {
            let count: i64 = get("count")?.parse().unwrap_or(0);
            let count = (count + first.parse::<i64>().unwrap_or(0)).to_string();
            set("count", &count)?;
            host::reply(count.as_bytes());
        }
        "get" => host::reply(get(&first)?.as_bytes()),
        "tell" => host::tell(&first, rest.as_bytes()).map_err(said)?,
        "ask" => drop(host::ask(&first, rest.as_bytes(), 5_000).map_err(said)?),
        "after" => {
            let timer = host::set_timer(first.parse().unwrap_or(0)).map_err(said)?;
            TIMERS.0.borrow_mut().push((timer, rest));
        }
        "cancel" => {
            let last = TIMERS.0.borrow_mut().pop();
            let was = last.is_some_and(|(timer, _)| host::cancel_timer(timer));
            host::reply(was.to_string().as_bytes());
        }
        "timers" => {
            let wanted: u64 = first.parse().unwrap_or(0);
            let set = (0..wanted).take_while(|_| host::set_timer(86_400_000).is_ok()).count();
            host::reply(set.to_string().as_bytes());
        }
        "subscribe" => host::subscribe(&first).map_err(said)?,
        "publish" => host::publish(&first, rest.as_bytes()).map_err(said)?,
        "now" => host::reply(host::now().map_err(said)?.to_string().as_bytes()),
        "random" => host::reply(&host::random_bytes(16).map_err(said)?),
        "name" => host::reply(host::firmware().as_bytes()),
        "config" => host::reply(host::config(&first).unwrap_or_default().as_bytes()),
        "sick" => *SICK.0.borrow_mut() = Some(first),
        "large" => host::reply(&vec![b'x'; first.parse().unwrap_or(0)]),
        "refuse" | "trap" | "spin" => {
            set("count", "1000")?;
            match verb.as_str() {
                "refuse" => return Err("as told".to_owned()),
                "trap" => std::process::abort(),
                _ => loop {
                    std::hint::black_box(0);
                },
            }
        }
        other => return Err(format!("no such word: {other}")),
    }
    Ok(())
}

fn get(name: &str) -> Result<String, String> {
    let value = host::get_variable(name).map_err(said)?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&value).into_owned())
}

fn set(name: &str, value: &str) -> Result<(), String> {
    host::set_variable(name, value.as_bytes()).map_err(said)
}

fn said(refusal: Refusal) -> String {
    match refusal {
        Refusal::NotAName => "not a name",
        Refusal::TooMuch => "too much",
        Refusal::Denied => "denied",
    }
    .to_owned()
}
