//! The commands in README.md are commands that exist.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use clap::Parser;
use odeum_runtime::cli::Cli;

/// The lines of the README's shell blocks, without prompts and output.
fn commands() -> Vec<String> {
    let readme = include_str!("../../README.md");
    let mut commands = Vec::new();
    let mut inside = false;
    for line in readme.lines() {
        match line {
            "```sh" => inside = true,
            "```" => inside = false,
            _ if inside => commands.push(line.to_owned()),
            _ => {}
        }
    }
    commands
}

/// Words as a shell would split them, as far as the README goes: blanks, double and single quotes.
fn words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in command.chars() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, ' ') => words.push(String::new()),
            (None, '#') => break,
            _ => words.last_mut().expect("never empty").push(c),
        }
    }
    words.retain(|word| !word.is_empty() && word != "&");
    words
}

#[test]
fn every_odeum_command_of_the_readme_is_understood() {
    let odeum: Vec<_> = commands()
        .into_iter()
        .map(|line| line.replace("cargo run --release -- ", "odeum "))
        .filter(|line| line.starts_with("odeum "))
        .collect();
    assert!(odeum.len() > 10, "the README shows its commands in `sh` blocks: {odeum:?}");
    for line in odeum {
        let parsed = Cli::try_parse_from(words(&line));
        assert!(
            parsed.is_ok(),
            "{line}: {}",
            parsed.err().map_or_else(String::new, |e| e.to_string())
        );
    }
}

#[test]
fn words_are_split_as_a_shell_does() {
    assert_eq!(
        words("odeum call counter \"add 1\" -o json  # why"),
        ["odeum", "call", "counter", "add 1", "-o", "json"]
    );
}
