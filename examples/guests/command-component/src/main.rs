//! A job as a component of WASI 0.2, built by the plain Rust target: does what its arguments say.
//!
//! | argument | |
//! |---|---|
//! | `print TEXT` | prints the text |
//! | `env NAME` | prints that variable |
//! | `cat FILE` | prints a file |
//! | `exit CODE` | exits with that code |
//! | `now` | prints the seconds since 1970 |
//! | `spin` | never ends |
//! | `fail` | panics |

use std::{env, fs, process, time};

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    for pair in args.chunks(2) {
        let [verb, rest @ ..] = pair else { continue };
        let word = rest.first().map_or("", String::as_str);
        match verb.as_str() {
            "print" => println!("{word}"),
            "env" => println!("{}", env::var(word).unwrap_or_else(|_| "not set".to_owned())),
            "cat" => match fs::read_to_string(word) {
                Ok(text) => print!("{text}"),
                Err(error) => {
                    eprintln!("{word}: {error}");
                    process::exit(2);
                }
            },
            "exit" => process::exit(word.parse().unwrap_or(1)),
            "now" => {
                let now = time::SystemTime::now().duration_since(time::UNIX_EPOCH);
                println!("{}", now.map_or(0, |now| now.as_secs()));
            }
            "spin" => loop {
                std::hint::black_box(0);
            },
            "fail" => panic!("as told"),
            other => eprintln!("no such word: {other}"),
        }
    }
}
