//! Asks the kernel for the process that connected: its groups, and the systemd units that it is in.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerPidfd;

use crate::model::caller::Process;
use crate::model::unit::Units;

/// Looks at the process that made this connection. The kernel names it by a descriptor (`SO_PEERPIDFD`, from Linux 6.5 on),
/// which stays that process's whoever holds the connection now and however often its number is used again.
#[must_use]
pub fn process(connection: &impl AsFd) -> Process {
    match getsockopt(connection, PeerPidfd) {
        Ok(pidfd) => seen(&pidfd).unwrap_or(Process::Gone),
        Err(Errno::ENOPROTOOPT) => Process::Untold,
        Err(_) => Process::Gone,
    }
}

/// Why rules that name a unit or a supplementary group cannot hold here, if so. To be asked at the start.
#[must_use]
pub fn blindness() -> Option<&'static str> {
    let Ok((one, _other)) = std::os::unix::net::UnixStream::pair() else { return None };
    match process(&one) {
        Process::Untold => {
            Some("this kernel does not tell which process is at the other end of a socket: Linux 6.5 or later does")
        }
        // Process 1 is another user's unless we are root.
        _ if fs::metadata("/proc/1/cgroup").is_err_and(|error| error.kind() == ErrorKind::NotFound) => {
            Some("the processes of others are hidden from this one: set `ProtectProc=default` in the unit")
        }
        _ => None,
    }
}

/// What `/proc` says of it, if that was about the same process from beginning to end.
fn seen(pidfd: &OwnedFd) -> Option<Process> {
    let pid = pid(pidfd)?;
    let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    // While the descriptor still has its number, nobody else can have had it.
    if self::pid(pidfd)? != pid {
        return None;
    }
    Some(Process::Seen { groups: groups(&status)?, units: Units::of_cgroup(&cgroup) })
}

/// The number of the process behind a descriptor; `None` if it has ended, or has no number that we could use.
fn pid(pidfd: &OwnedFd) -> Option<u32> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    field(&info, "Pid:")?.trim().parse().ok().filter(|pid| *pid > 0)
}

/// The supplementary groups of `/proc/PID/status`.
fn groups(status: &str) -> Option<Vec<u32>> {
    field(status, "Groups:")?.split_whitespace().map(|gid| gid.parse().ok()).collect()
}

fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.strip_prefix(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_read_as_the_kernel_writes_them() {
        for (status, expected) in [
            ("Name:\tx\nGroups:\t4 27 1000 \nNStgid:\t1\n", Some(vec![4, 27, 1000])),
            ("Groups:\t\n", Some(vec![])),
            ("Groups:\t4 x\n", None),
            ("Name:\tGroups: 4\n", None),
        ] {
            assert_eq!(groups(status), expected, "{status:?}");
        }
    }

    #[test]
    fn the_other_end_is_looked_at_and_found() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let expected = fs::read_to_string("/proc/self/cgroup").unwrap();
        match process(&one) {
            Process::Seen { units, groups: found } => {
                assert_eq!(units, Units::of_cgroup(&expected));
                assert_eq!(Some(found), groups(&fs::read_to_string("/proc/self/status").unwrap()));
            }
            Process::Untold => assert!(blindness().unwrap().contains("6.5")),
            Process::Gone => panic!("this process is there"),
        }
    }
}
