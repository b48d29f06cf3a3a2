//! Whether the kernel's word for who is at the other end of a socket can be trusted here.

use std::fs;

use crate::daemon::Socket;

/// How many users there are.
const ALL_UIDS: u64 = u32::MAX as u64;

/// Whether others than the daemon's own user can connect.
pub(super) fn is_for_others(socket: &Socket) -> bool {
    match socket {
        // Whoever made it decided, and the directory above it may say more than its mode.
        Socket::Inherited(_) => true,
        // What the mode says of others is never granted.
        Socket::Own(placement) => placement.mode & 0o060 != 0,
    }
}

/// Whether every user of the machine has a number of their own here. In a user namespace that maps some users only, all the
/// others are one.
pub(super) fn tells_users_apart() -> bool {
    fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| maps_everybody(&map))
}

/// The lines of `uid_map` are the first uid here, the first outside, and how many follow (`user_namespaces(7)`).
fn maps_everybody(map: &str) -> bool {
    let counts = map.lines().map(|line| line.split_whitespace().nth(2).and_then(|count| count.parse::<u64>().ok()));
    counts.sum::<Option<u64>>().is_some_and(|count| count >= ALL_UIDS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::listener::Placement;

    #[test]
    fn a_namespace_has_everybody_or_it_has_not() {
        for (map, everybody) in [
            ("         0          0 4294967295\n", true),
            ("0 0 1000\n1000 1000 4294966295\n", true),
            ("         0       1000          1\n", false),
            ("0 100000 65536\n", false),
            ("0 0 x\n", false),
            ("", false),
        ] {
            assert_eq!(maps_everybody(map), everybody, "{map:?}");
        }
    }

    #[test]
    fn a_socket_of_ones_own_is_for_nobody_else() {
        for (mode, others) in [(0o600, false), (0o660, true), (0o606, false), (0o640, true), (0o700, false)] {
            let socket = Socket::Own(Placement { path: "/s".into(), mode, group: None });
            assert_eq!(is_for_others(&socket), others, "{mode:o}");
        }
    }
}
