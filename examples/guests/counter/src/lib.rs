//! A guest that counts, and keeps its count as the variable `count` of the message's session.
//!
//! | message | what it does |
//! |---|---|
//! | (empty), `add N` | adds 1 or N, replies the new count |
//! | `get` | replies the count |
//! | `stats` | replies how many messages this instance has handled: a number in its own memory, which a restart loses |
//! | `trap` | executes `unreachable` |
//! | `spin` | never ends |
//! | `eat` | takes memory until it gets no more |
//!
//! Anything else is refused. The ABI is described in `runtime/wit/odeum-actor-core.md`.

#![no_std]

use core::{cell::UnsafeCell, panic::PanicInfo, slice, str};

#[link(wasm_import_module = "odeum")]
unsafe extern "C" {
    fn var_get(key: *const u8, key_len: usize, into: *mut u8, capacity: usize) -> i32;
    fn var_set(key: *const u8, key_len: usize, value: *const u8, value_len: usize) -> i32;
    fn reply(body: *const u8, len: usize);
    fn log(level: i32, text: *const u8, len: usize);
}

const DONE: i32 = 0;
const NOT_UNDERSTOOD: i32 = 1;
const OVERFLOW: i32 = 2;
const NO_COUNT: i32 = 3;

const WARN: i32 = 1;
const KEY: &str = "count";

/// Digits of the largest `u64`.
const DIGITS: usize = 20;

/// Longest message that means something: `add ` and a number.
const MESSAGE_BYTES: usize = 4 + DIGITS;

/// Memory of this instance. A guest handles one message at a time, on one thread.
struct Own<T>(UnsafeCell<T>);
// SAFETY: there is one thread.
unsafe impl<T> Sync for Own<T> {}

static MESSAGE: Own<[u8; MESSAGE_BYTES]> = Own(UnsafeCell::new([0; MESSAGE_BYTES]));
/// Pages behind the memory that the module began with: for messages that are longer than any we
/// understand, which the host needs a place for all the same.
static LARGE: Own<Large> = Own(UnsafeCell::new(Large { first: 0, pages: 0 }));
static HANDLED: Own<u64> = Own(UnsafeCell::new(0));

/// Place for a message of `len` bytes. One place is enough, since a message ends before the next
/// one begins.
#[unsafe(no_mangle)]
pub extern "C" fn odeum_alloc(len: usize) -> *mut u8 {
    if len <= MESSAGE_BYTES {
        return MESSAGE.0.get().cast();
    }
    large_message(len)
}

#[unsafe(no_mangle)]
pub extern "C" fn odeum_handle(message: *const u8, len: usize) -> i32 {
    // SAFETY: there is one thread, and no other reference to it.
    let handled = unsafe { &mut *HANDLED.0.get() };
    *handled += 1;
    // SAFETY: the host put `len` bytes at the place `odeum_alloc` gave; with none, it gave none.
    let message = if len == 0 { &[] } else { unsafe { slice::from_raw_parts(message, len) } };
    match message {
        b"" => add(1),
        b"get" => count().map_or(NO_COUNT, answer),
        b"stats" => answer_with(b"handled ", *handled),
        b"trap" => {
            say("asked to trap");
            core::arch::wasm32::unreachable()
        }
        b"spin" => loop {
            core::hint::spin_loop();
        },
        b"eat" => eat(),
        _ => match message.strip_prefix(b"add ").and_then(number) {
            Some(n) => add(n),
            None => refuse("expected nothing, `add N`, `get`, `stats`, `trap`, `spin` or `eat`"),
        },
    }
}

fn add(n: u64) -> i32 {
    let Some(count) = count() else { return NO_COUNT };
    let Some(count) = count.checked_add(n) else {
        refuse("the count would be larger than 2^64 - 1");
        return OVERFLOW;
    };
    let mut digits = [0; DIGITS];
    let text = decimal(count, &mut digits);
    // SAFETY: both are live slices.
    unsafe { var_set(KEY.as_ptr(), KEY.len(), text.as_ptr(), text.len()) };
    answer(count)
}

/// The session's count; refuses the message when the variable holds something else.
fn count() -> Option<u64> {
    let mut value = [0; DIGITS];
    // SAFETY: both are live slices.
    let len = unsafe { var_get(KEY.as_ptr(), KEY.len(), value.as_mut_ptr(), value.len()) };
    let Ok(len) = usize::try_from(len) else { return Some(0) };
    let count = value.get(..len).and_then(number);
    if count.is_none() {
        refuse("the variable `count` is not a number");
    }
    count
}

fn answer(number: u64) -> i32 {
    answer_with(b"", number)
}

fn answer_with(before: &[u8], number: u64) -> i32 {
    let mut body = [0; 8 + DIGITS];
    let mut digits = [0; DIGITS];
    let text = decimal(number, &mut digits);
    let len = before.len() + text.len();
    body[..before.len()].copy_from_slice(before);
    body[before.len()..len].copy_from_slice(text);
    // SAFETY: a live slice.
    unsafe { reply(body.as_ptr(), len) };
    DONE
}

fn refuse(why: &str) -> i32 {
    // SAFETY: a live slice.
    unsafe { reply(why.as_ptr(), why.len()) };
    NOT_UNDERSTOOD
}

fn say(text: &str) {
    // SAFETY: a live slice.
    unsafe { log(WARN, text.as_ptr(), text.len()) };
}

/// Takes memory until the host refuses, and then gives up as an allocator does.
fn eat() -> i32 {
    while core::arch::wasm32::memory_grow::<0>(16) != usize::MAX {}
    core::arch::wasm32::unreachable()
}

struct Large {
    first: usize,
    pages: usize,
}

/// Nothing else in this guest takes pages and goes on, so those of several calls are neighbours.
fn large_message(len: usize) -> *mut u8 {
    const PAGE: usize = 65_536;
    // SAFETY: there is one thread, and no other reference to it.
    let large = unsafe { &mut *LARGE.0.get() };
    let missing = len.div_ceil(PAGE).saturating_sub(large.pages);
    if missing > 0 {
        match core::arch::wasm32::memory_grow::<0>(missing) {
            usize::MAX => return core::ptr::null_mut(),
            page if large.pages == 0 => large.first = page,
            _ => {}
        }
        large.pages += missing;
    }
    (large.first * PAGE) as *mut u8
}

fn number(text: &[u8]) -> Option<u64> {
    let digits_only = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    str::from_utf8(text).ok().filter(|_| digits_only)?.parse().ok()
}

fn decimal(mut number: u64, digits: &mut [u8; DIGITS]) -> &[u8] {
    let mut at = DIGITS;
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}

#[panic_handler]
fn panic(_: &PanicInfo) -> ! {
    core::arch::wasm32::unreachable()
}
