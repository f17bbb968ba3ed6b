//! A bounded run of the fuzz targets with every test run: the corpus that fuzzing left, and
//! mutations of it that are the same each time.

use std::fs;
use std::path::Path;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

/// Mutated inputs per target: together a second or two without optimisation.
const MUTATIONS: usize = 4_000;

/// Longest mutated input, in bytes, as when fuzzing.
const LONGEST: usize = 4_096;

/// Values at which lengths and numbers tend to go wrong.
const EDGES: [u8; 8] = [0, 1, 0x1f, 0x20, 0x40, 0x7f, 0x80, 0xff];

#[test]
fn frames_are_read_or_refused_whatever_a_peer_sends() {
    run("frames", super::frames);
}

#[test]
fn packets_of_a_lane_are_read_or_refused_whatever_a_peer_sends() {
    run("lane", super::lane);
}

#[test]
fn introductions_are_read_or_refused_whatever_a_peer_sends() {
    run("introduction", super::introduction);
}

#[test]
fn datagrams_are_read_or_refused_whatever_a_peer_sends() {
    run("datagrams", super::datagrams);
}

/// Shows the input at which a target failed, to be kept as a file of its corpus.
struct Tried<'a>(&'a str, &'a [u8]);

impl Drop for Tried<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{} failed at the input {:02x?}", self.0, self.1);
        }
    }
}

fn run(target: &str, parse: fn(&[u8])) {
    let attempt = |input: &[u8]| {
        let _tried = Tried(target, input);
        parse(input);
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .expect("a corpus")
        .map(|entry| entry.expect("readable").path())
        .collect();
    files.sort();
    let corpus: Vec<_> = files.iter().map(|file| fs::read(file).expect("readable")).collect();
    assert!(!corpus.is_empty(), "{} is empty", folder.display());
    corpus.iter().for_each(|input| attempt(input));

    let mut rng = StdRng::seed_from_u64(7);
    for _ in 0..MUTATIONS {
        let mut input = corpus.choose(&mut rng).cloned().unwrap_or_default();
        for _ in 0..rng.random_range(1..6) {
            mutate(&mut input, &corpus, &mut rng);
        }
        input.truncate(LONGEST);
        attempt(&input);
    }
}

/// One step away from `input`: a bit, a byte, a cut, a repetition, or a part of another input.
fn mutate(input: &mut Vec<u8>, corpus: &[Vec<u8>], rng: &mut StdRng) {
    let at = rng.random_range(0..=input.len());
    let until = rng.random_range(at..=input.len().min(at + 64));
    match rng.random_range(0..7) {
        0 => input.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << rng.random_range(0..8)),
        1 => input.get_mut(at).into_iter().for_each(|byte| *byte = rng.random()),
        2 => {
            let edge = EDGES.choose(rng).copied().unwrap_or_default();
            input.get_mut(at..until).into_iter().for_each(|bytes| bytes.fill(edge));
        }
        3 => drop(input.drain(at..until)),
        4 => {
            let again = input.get(at..until).unwrap_or_default().to_vec();
            input.splice(at..at, again);
        }
        5 => {
            let noise: Vec<u8> = (at..until).map(|_| rng.random()).collect();
            input.splice(at..at, noise);
        }
        _ => {
            let other = corpus.choose(rng).map(Vec::as_slice).unwrap_or_default();
            let from = rng.random_range(0..=other.len());
            input.truncate(at);
            input.extend_from_slice(other.get(from..).unwrap_or_default());
        }
    }
}
