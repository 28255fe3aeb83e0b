//! Ports that stay free until somebody listens on them, and between two who do.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, anyhow};

/// Below the range that the kernel takes outgoing connections' ports from (32768 on, unless somebody changed it): one of
/// those may take any port there as soon as nobody listens on it, as while a process is started again.
const FIRST: u16 = 12_000;
const COUNT: u16 = 20_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// Ports that this process gave out: the lock on a port's file lasts as long as the process, and keeps other runs from it.
static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A port of 127.0.0.1 that is free as long as the listener is held, and that afterwards nobody takes by chance.
///
/// # Errors
/// When all are taken.
pub(crate) fn free() -> Result<(TcpListener, u16)> {
    let folder = std::env::temp_dir().join("certmon-e2e-ports");
    // Where somebody else made the folder there are no locks, and chance must do.
    let _made = std::fs::create_dir_all(&folder);
    // Runs beside this one begin elsewhere.
    let begin = u16::try_from(std::process::id().wrapping_mul(7919) % u32::from(COUNT))?;
    for _ in 0..COUNT {
        let number = (begin + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT;
        let port = FIRST + number;
        let file = File::create(folder.join(port.to_string())).ok();
        if file.as_ref().is_some_and(|file| file.try_lock().is_err()) {
            continue;
        }
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            HELD.lock().unwrap_or_else(PoisonError::into_inner).extend(file);
            return Ok((listener, port));
        }
    }
    Err(anyhow!("no free port on 127.0.0.1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_out_twice_though_it_is_free_again() -> Result<()> {
        let ports: Vec<u16> = (0..50).map(|_| Ok(free()?.1)).collect::<Result<_>>()?;
        let unique: std::collections::BTreeSet<&u16> = ports.iter().collect();
        assert_eq!(unique.len(), ports.len(), "{ports:?}");
        assert!(
            ports.iter().all(|port| (FIRST..FIRST + COUNT).contains(port)),
            "{ports:?}"
        );
        Ok(())
    }
}
