//! Guests of `odeum:actor` as components: what they write, whom they tell, and what comes back.

use std::time::{Duration, Instant};

use odeum_proto::{
    chronicle::{Begin, Lines},
    store::FirmwarePolicy,
};

use super::bench::{Ears, session, started};
use super::stage::{PATIENCE, Stage, entity};
use super::{ACTOR, COUNTER, packaged};
use crate::firmware::{
    Answer, Arrival, Deed, Effect, GuestFailure, GuestLimit, HostState, Instance, Ledger as _,
};

async fn said(instance: Instance, message: &str) -> (Instance, Answer) {
    instance.handle(message.as_bytes(), session(&[("count", "41")])).await.expect("handles")
}

fn reply(answer: &Answer) -> String {
    match answer {
        Answer::Done(effect) => String::from_utf8_lossy(&effect.reply).into_owned(),
        Answer::Refused { reason, .. } => format!("refused: {reason}"),
    }
}

#[tokio::test]
async fn an_actor_reads_and_writes_variables_and_replies() {
    let actor = started(ACTOR, "[environment]\nPLACE = 'here'").await.expect("starts");
    let (actor, answer) = said(actor, "add 1").await;
    assert_eq!(reply(&answer), "42");
    let Answer::Done(Effect { writes, .. }) = answer else { panic!("refused") };
    assert_eq!(writes.len(), 1);
    let (actor, answer) = said(actor, "get count").await;
    assert_eq!(reply(&answer), "41");
    let (actor, answer) = said(actor, "config PLACE").await;
    assert_eq!(reply(&answer), "here");
    let (actor, answer) = said(actor, "name").await;
    assert_eq!(reply(&answer), "guest");
    let (actor, answer) = said(actor, "refuse").await;
    assert_eq!(reply(&answer), "refused: as told");
    let (_, answer) = said(actor, "nonsense").await;
    assert_eq!(reply(&answer), "refused: no such word: nonsense");
}

#[tokio::test]
async fn what_is_not_granted_is_denied_with_the_line_that_would_allow_it() {
    let ears = Ears::open();
    let mut actor = started(ACTOR, "").await.expect("starts");
    for (message, line) in [
        ("now", "clock = true"),
        ("random", "random = true"),
        ("tell shop-1 x", "messages = [\"shop-1\"]"),
        ("ask shop-1 x", "messages = [\"shop-1\"]"),
        ("publish a/b x", "publish = [\"a/b\"]"),
        ("subscribe a/b", "subscribe = [\"a/b\"]"),
    ] {
        let (next, answer) = said(actor, message).await;
        assert_eq!(reply(&answer), "refused: denied", "{message}");
        let line = line.replace('"', "\\\"");
        let heard = ears.heard();
        assert!(heard.contains(&line) || heard.contains(&line.replace('\\', "")), "{heard}");
        actor = next;
    }
    let granted = "[capabilities]\nclock = true\nrandom = true\nmessages = ['shop-*']\n\
                   publish = ['a/*']";
    let mut actor = started(ACTOR, granted).await.expect("starts");
    for message in ["now", "random", "tell shop-1 x", "ask shop-2 x", "publish a/b x"] {
        let (next, answer) = said(actor, message).await;
        assert!(matches!(answer, Answer::Done(_)), "{message}: {answer:?}");
        actor = next;
    }
}

#[tokio::test]
async fn what_it_does_to_others_is_kept_aside_and_dropped_with_a_refusal() {
    let granted = "[capabilities]\nmessages = ['other']";
    let actor = started(ACTOR, granted).await.expect("starts");
    let (actor, answer) = said(actor, "tell other hello there").await;
    let Answer::Done(Effect { deeds, .. }) = answer else { panic!("refused") };
    let tell = Deed::Tell { to: "other".parse().expect("a name"), body: b"hello there".to_vec() };
    assert_eq!(deeds, [tell]);
    let (actor, answer) = said(actor, "after 5 done").await;
    let Answer::Done(Effect { deeds, .. }) = answer else { panic!("refused") };
    let [Deed::SetTimer { number, after }] = deeds[..] else { panic!("{deeds:?}") };
    assert_eq!(after, Duration::from_millis(5));
    let timed = actor.handle(Arrival::TimedOut { number }, session(&[])).await;
    let (actor, answer) = timed.expect("handles");
    assert!(matches!(answer, Answer::Done(Effect { writes, .. }) if writes.len() == 1));
    let (_, answer) = said(actor, "tell Bad_Name x").await;
    assert_eq!(reply(&answer), "refused: not a name");
}

#[tokio::test]
async fn a_million_timers_are_a_thousand() {
    let actor = started(ACTOR, "").await.expect("starts");
    let (actor, answer) = said(actor, "timers 1000000").await;
    assert_eq!(reply(&answer), "1024");
    let (_, answer) = said(actor, "timers 1").await;
    assert_eq!(reply(&answer), "0");
}

#[tokio::test]
async fn hostile_actors_end_by_their_limits() {
    let actor = || started(ACTOR, "");
    let handle = async |message: &'static str| {
        let actor = actor().await.expect("starts");
        actor.handle(message.as_bytes(), session(&[])).await.map(|_| ()).expect_err("is ended")
    };
    let failure = handle("spin").await;
    assert!(matches!(failure, GuestFailure::Limit(GuestLimit::Time { .. })), "{failure}");
    let failure = handle("trap").await;
    assert!(failure.to_string().contains("unreachable"), "{failure}");
    let failure = handle("large 1500000").await;
    assert!(matches!(failure, GuestFailure::Limit(GuestLimit::Reply { .. })), "{failure}");
    let failure = handle("large 50000000").await;
    assert!(matches!(failure, GuestFailure::Limit(GuestLimit::Memory { .. })), "{failure}");
}

/// Waits until a variable of the default session has that value.
async fn until_variable(stage: &Stage, name: &str, key: &str, value: &str) {
    let session = format!("{name}/default").parse().expect("valid");
    let end = Instant::now() + PATIENCE;
    loop {
        let is = stage.shelf.variable(&session, key);
        if is.as_deref() == Some(value.as_bytes()) {
            return;
        }
        let is = is.map(|is| String::from_utf8_lossy(&is).into_owned());
        assert!(Instant::now() < end, "{key} of {name} is {is:?}, not {value:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn an_actor_tells_asks_and_times_through_its_host() {
    let stage = Stage::new().await;
    stage.deploy("actor", &packaged("[capabilities]\nmessages = ['*']", ACTOR)).await;
    stage.deploy("counter", COUNTER).await;
    stage.until_state("counter", HostState::Running).await;
    stage.until_state("actor", HostState::Running).await;
    until_variable(&stage, "actor", "started", "yes").await;
    stage.said("actor", "r1", "tell counter add 5").await;
    until_variable(&stage, "counter", "count", "5").await;
    stage.said("actor", "r2", "ask counter add 2").await;
    until_variable(&stage, "actor", "answer", "7").await;
    stage.said("actor", "r3", "ask nobody hello").await;
    let nobody = format!("error: there is no {}", entity("nobody"));
    until_variable(&stage, "actor", "answer", &nobody).await;
    stage.said("actor", "r4", "after 20 done").await;
    until_variable(&stage, "actor", "timer", "done").await;
    stage.said("actor", "r5", "after 600000 never").await;
    assert_eq!(stage.said("actor", "r6", "cancel").await, "true");
    // It asks itself: the answer comes when the message at hand is over.
    stage.said("actor", "r7", "ask actor add 1").await;
    until_variable(&stage, "actor", "answer", "1").await;
}

/// Under topics of `news`.
const NEWS: &str = "[capabilities]\npublish = ['news/*']\nsubscribe = ['news/*']";

#[tokio::test]
async fn an_actor_hears_what_others_publish_under_its_topics_as_long_as_its_instance_lives() {
    let stage = Stage::new().await;
    let package = packaged(NEWS, ACTOR);
    for name in ["speaker", "hearer", "other"] {
        stage.deploy(name, &package).await;
        stage.until_state(name, HostState::Running).await;
    }
    stage.said("hearer", "r1", "subscribe news/here").await;
    stage.said("other", "r2", "subscribe news/there").await;
    stage.said("speaker", "r3", "publish news/here good news").await;
    until_variable(&stage, "hearer", "heard", "news/here: good news").await;
    // When the other one has heard the second, the first could have heard it before.
    stage.said("speaker", "r4", "publish news/there bad news").await;
    until_variable(&stage, "other", "heard", "news/there: bad news").await;
    let heard = stage.said("hearer", "r5", "get heard").await;
    assert_eq!(heard, "news/here: good news", "it is not subscribed to that");
    // Its own as well, and what it is subscribed to twice once.
    stage.said("hearer", "r6", "subscribe news/here").await;
    stage.said("hearer", "r7", "publish news/here of mine").await;
    until_variable(&stage, "hearer", "heard", "news/here: of mine").await;
    // With the instance its subscription ends; the next one has none until it asks for it.
    stage.call("hearer", "r8", "trap").await.expect_err("traps");
    stage.said("other", "r9", "subscribe news/here").await;
    stage.said("hearer", "r10", "name").await;
    stage.said("speaker", "r11", "publish news/here too late").await;
    until_variable(&stage, "other", "heard", "news/here: too late").await;
    assert_eq!(stage.said("hearer", "r12", "get heard").await, "news/here: of mine");
    stage.said("hearer", "r13", "subscribe news/here").await;
    stage.said("speaker", "r14", "publish news/here again").await;
    until_variable(&stage, "hearer", "heard", "news/here: again").await;
}

/// The lines that a guest has logged, once one of them says `text`.
async fn logged(stage: &Stage, name: &str, text: &str) -> Vec<String> {
    let name = name.parse().expect("valid");
    let end = Instant::now() + PATIENCE;
    loop {
        let begin = Begin::Last { lines: 100, within_ms: None };
        let Lines { lines, .. } = stage.handle.chronicles.lines(&name, begin, PATIENCE).await;
        let lines: Vec<String> = lines.into_iter().map(|line| line.text).collect();
        if lines.iter().any(|line| line == text) {
            return lines;
        }
        assert!(Instant::now() < end, "{text:?} is not among {lines:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn an_actor_takes_leave_when_it_is_ended_in_good_order_and_not_after_a_trap() {
    let stage = Stage::new().await;
    stage.deploy("moves", ACTOR).await;
    stage.until_state("moves", HostState::Running).await;
    stage.call("moves", "r1", "trap").await.expect_err("traps");
    stage.said("moves", "r2", "name").await;
    stage.place("moves", "n2");
    let lines = logged(&stage, "moves", "stopped").await;
    assert_eq!(lines, ["started", "started", "stopped"], "the one that trapped says nothing");

    let idle = Some(Duration::from_millis(20));
    *stage.policy.lock().expect("not poisoned") =
        FirmwarePolicy { idle, ..FirmwarePolicy::default() };
    stage.deploy("idles", ACTOR).await;
    stage.until_state("idles", HostState::Idle).await;
    assert_eq!(logged(&stage, "idles", "stopped").await, ["started", "stopped"]);
}

#[tokio::test]
async fn a_trap_drops_what_a_message_did_and_the_timers_of_the_instance() {
    let stage = Stage::new().await;
    stage.deploy("actor", ACTOR).await;
    stage.said("actor", "r1", "add 1").await;
    stage.said("actor", "r2", "after 100 late").await;
    let trapped = stage.call("actor", "r3", "trap").await.expect_err("traps");
    assert!(trapped.to_string().contains("unreachable"), "{trapped}");
    assert_eq!(stage.said("actor", "r4", "get count").await, "1");
    assert_eq!(stage.said("actor", "r5", "get timer").await, "");
}

#[tokio::test]
async fn one_that_cannot_start_says_why() {
    let actor = started(ACTOR, "[environment]\nSTART = 'fail'").await.expect("starts");
    let told = actor.handle(Arrival::Started, session(&[])).await.expect("handles");
    assert_eq!(reply(&told.1), "refused: as told");
}
