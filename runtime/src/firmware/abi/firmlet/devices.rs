//! The files of a firmlet: devices, opened by path and read by handle.
//!
//! Pure: the time and random bytes come with the call.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::code;

/// Most files that are open at once. A firmlet needs a clock.
const HANDLES: usize = 64;

/// 100 ns from 0001-01-01 to 1970-01-01, as .NET counts `DateTime.Ticks`: 719,162 days.
const TICKS_OF_1970: u64 = 719_162 * 24 * 3_600 * 10_000_000;

/// Bytes of the clock: its ticks as a 64-bit number, little-endian.
const CLOCK_BYTES: usize = 8;

/// A device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Device {
    /// `/dev/clock`
    Clock,
    /// `/dev/random`
    Random,
}

impl Device {
    fn at(path: &str) -> Option<Self> {
        match path {
            "/dev/clock" => Some(Self::Clock),
            "/dev/random" => Some(Self::Random),
            _ => None,
        }
    }
}

/// What may be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Allowed {
    pub(super) clock: bool,
    pub(super) random: bool,
}

/// Why something was not opened.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// By this code.
    Code(i32),
    /// Because the manifest does not grant it.
    Denied(Device),
}

#[derive(Debug, Serialize, Deserialize)]
struct Open {
    device: Device,
    /// Opened only to see whether it could be.
    probe: bool,
    /// The clock's bytes from its first read until all of them are read.
    clock: [u8; CLOCK_BYTES],
    read: usize,
}

/// The open files of one instance.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Devices {
    open: BTreeMap<i32, Open>,
    last: i32,
}

impl Devices {
    /// A handle, from 1.
    pub(super) fn open(
        &mut self,
        path: &str,
        mode: i32,
        flags: i32,
        allowed: Allowed,
    ) -> Result<i32, Refused> {
        if path.trim().is_empty() || !matches!(mode, 0 | 1) || !matches!(flags, 0 | 1) {
            return Err(Refused::Code(code::INVALID_ARGUMENT));
        }
        let device = Device::at(path).ok_or(Refused::Code(code::NOT_FOUND))?;
        let is_allowed = match device {
            Device::Clock => allowed.clock,
            Device::Random => allowed.random,
        };
        if !is_allowed {
            return Err(Refused::Denied(device));
        }
        if mode == 1 {
            return Err(Refused::Code(code::NO_ACCESS));
        }
        let next = self.last.checked_add(1).filter(|_| self.open.len() < HANDLES);
        let handle = next.ok_or(Refused::Code(code::OUT_OF_MEMORY))?;
        self.last = handle;
        let open = Open { device, probe: flags == 1, clock: [0; CLOCK_BYTES], read: 0 };
        self.open.insert(handle, open);
        Ok(handle)
    }

    pub(super) fn close(&mut self, handle: i32) -> i32 {
        match self.open.remove(&handle) {
            Some(_) => code::OK,
            None => code::INVALID_ARGUMENT,
        }
    }

    /// How many bytes were read, or a code. `now` is the time since 1970.
    pub(super) fn read(
        &mut self,
        handle: i32,
        into: &mut [u8],
        now: impl FnOnce() -> Duration,
        random: impl FnOnce(&mut [u8]) -> bool,
    ) -> i32 {
        let Some(open) = self.open.get_mut(&handle) else { return code::INVALID_ARGUMENT };
        if open.probe {
            return code::NO_ACCESS;
        }
        let read = match open.device {
            Device::Random if random(into) => into.len(),
            Device::Random => return code::IO,
            Device::Clock => {
                if open.read == 0 {
                    open.clock = ticks(now()).to_le_bytes();
                }
                let rest = &open.clock[open.read..];
                let len = rest.len().min(into.len());
                into[..len].copy_from_slice(&rest[..len]);
                // All of it is read: the next read tells the time anew.
                open.read = (open.read + len) % CLOCK_BYTES;
                len
            }
        };
        i32::try_from(read).unwrap_or(i32::MAX)
    }

    /// Nothing can be written: what is open was opened to be read.
    pub(super) fn write(&self, handle: i32) -> i32 {
        match self.open.contains_key(&handle) {
            true => code::NO_ACCESS,
            false => code::INVALID_ARGUMENT,
        }
    }
}

/// A time as .NET's `DateTime.Ticks`. Source: ECMA-335, `System.DateTime`: 100 ns since 0001-01-01.
fn ticks(since_1970: Duration) -> u64 {
    let since = since_1970.as_nanos() / 100;
    TICKS_OF_1970.saturating_add(u64::try_from(since).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Allowed = Allowed { clock: true, random: true };
    const NONE: Allowed = Allowed { clock: false, random: false };

    fn read(devices: &mut Devices, handle: i32, len: usize, now: u64) -> (i32, Vec<u8>) {
        let mut into = vec![0; len];
        let fill = |bytes: &mut [u8]| {
            bytes.fill(7);
            true
        };
        let code = devices.read(handle, &mut into, || Duration::from_secs(now), fill);
        (code, into)
    }

    #[test]
    fn the_clock_tells_dotnet_ticks() {
        // `DateTime.UnixEpoch.Ticks`, and 2000-01-01.
        assert_eq!(ticks(Duration::ZERO), 621_355_968_000_000_000);
        assert_eq!(ticks(Duration::from_secs(946_684_800)), 630_822_816_000_000_000);
        let mut devices = Devices::default();
        let handle = devices.open("/dev/clock", 0, 0, ALL).expect("opens");
        let (len, bytes) = read(&mut devices, handle, 8, 0);
        assert_eq!((len, bytes), (8, 621_355_968_000_000_000_u64.to_le_bytes().to_vec()));
    }

    #[test]
    fn small_reads_of_the_clock_are_pieces_of_one_time() {
        let mut devices = Devices::default();
        let handle = devices.open("/dev/clock", 0, 0, ALL).expect("opens");
        let (first, second) = (read(&mut devices, handle, 3, 5), read(&mut devices, handle, 64, 9));
        assert_eq!((first.0, second.0), (3, 5));
        let pieces = [&first.1[..], &second.1[..5]].concat();
        assert_eq!(pieces, ticks(Duration::from_secs(5)).to_le_bytes());
        let anew = read(&mut devices, handle, 8, 9);
        assert_eq!(anew.1, ticks(Duration::from_secs(9)).to_le_bytes());
    }

    #[test]
    fn every_mistake_has_its_code() {
        let mut devices = Devices::default();
        let mut code = |path, mode, flags, allowed| devices.open(path, mode, flags, allowed);
        for (path, mode, flags, refused) in [
            (" ", 0, 0, code::INVALID_ARGUMENT),
            ("/dev/clock", 2, 0, code::INVALID_ARGUMENT),
            ("/dev/clock", 0, 2, code::INVALID_ARGUMENT),
            ("/dev/null", 0, 0, code::NOT_FOUND),
            ("/dev/clock", 1, 0, code::NO_ACCESS),
        ] {
            assert_eq!(code(path, mode, flags, ALL), Err(Refused::Code(refused)), "{path}");
        }
        assert_eq!(code("/dev/clock", 0, 0, NONE), Err(Refused::Denied(Device::Clock)));
        assert_eq!(code("/dev/random", 0, 0, NONE), Err(Refused::Denied(Device::Random)));
        let probe = devices.open("/dev/clock", 0, 1, ALL).expect("opens");
        assert_eq!(read(&mut devices, probe, 8, 0).0, code::NO_ACCESS);
        assert_eq!(devices.write(probe), code::NO_ACCESS);
        assert_eq!(devices.close(probe), code::OK);
        assert_eq!(devices.close(probe), code::INVALID_ARGUMENT);
        assert_eq!(devices.write(probe), code::INVALID_ARGUMENT);
        assert_eq!(read(&mut devices, probe, 8, 0).0, code::INVALID_ARGUMENT);
    }

    #[test]
    fn a_machine_without_random_numbers_is_a_failure_of_the_device() {
        let mut devices = Devices::default();
        let handle = devices.open("/dev/random", 0, 0, ALL).expect("opens");
        let mut into = [0; 8];
        let failed = devices.read(handle, &mut into, || Duration::ZERO, |_| false);
        assert_eq!((failed, into), (code::IO, [0; 8]));
        assert_eq!(read(&mut devices, handle, 8, 0), (8, vec![7; 8]), "it is still open");
    }

    #[test]
    fn handles_are_bounded() {
        let mut devices = Devices::default();
        for _ in 0..HANDLES {
            devices.open("/dev/random", 0, 0, ALL).expect("opens");
        }
        let full = devices.open("/dev/random", 0, 0, ALL);
        assert_eq!(full, Err(Refused::Code(code::OUT_OF_MEMORY)));
    }
}
