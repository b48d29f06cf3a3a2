//! Whose browser is at the other end of a loopback connection: the kernel's own list of sockets names the user of each.
//!
//! The list is read through `/proc/self/net`, which stays readable when a service's view of `/proc` is narrowed. The answer
//! is nothing, never a guess: through a forwarded port, across network namespaces or from another machine it cannot be told.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::broker::connect::Visitor;
use crate::model::subject::Subject;

/// Stands for every user that our user namespace has no number for, so it names nobody.
const OVERFLOW_UID: u32 = 65534;
/// `TCP_ESTABLISHED`. In later states the kernel has forgotten the owner and shows root.
const ESTABLISHED: &str = "01";

/// Who is at the other end of a connection that we accepted.
pub(crate) async fn visitor(peer: SocketAddr, local: SocketAddr) -> Visitor {
    // The kernel writes the list while it is read, which takes a while on a machine with many connections.
    let uid = tokio::task::spawn_blocking(move || {
        ["/proc/self/net/tcp", "/proc/self/net/tcp6"]
            .into_iter()
            .filter_map(|path| std::fs::read_to_string(path).ok())
            .find_map(|table| uid_of(&table, peer, local))
    })
    .await;
    match uid {
        Ok(Some(uid)) => Visitor::Person(Subject::from_uid(uid)),
        Ok(None) | Err(_) => Visitor::Unknown,
    }
}

/// The user of the socket that is bound to `near` and connected to `far`, from the text of `/proc/net/tcp` or `tcp6`.
fn uid_of(table: &str, near: SocketAddr, far: SocketAddr) -> Option<u32> {
    let row = table
        .lines()
        .skip(1)
        .filter_map(Row::read)
        .find(|row| row.established && same(row.near, near) && same(row.far, far))?;
    (row.owned && row.uid != OVERFLOW_UID).then_some(row.uid)
}

/// One socket of the list.
struct Row {
    near: SocketAddr,
    far: SocketAddr,
    established: bool,
    /// Whether a process holds the socket. The user of an orphan is shown as root.
    owned: bool,
    uid: u32,
}

impl Row {
    /// `sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode …`
    fn read(line: &str) -> Option<Self> {
        let mut columns = line.split_ascii_whitespace();
        let near = address(columns.nth(1)?)?;
        let far = address(columns.next()?)?;
        let established = columns.next()? == ESTABLISHED;
        let uid = columns.nth(3)?.parse().ok()?;
        let inode: u64 = columns.nth(1)?.parse().ok()?;
        Some(Self { near, far, established, owned: inode != 0, uid })
    }
}

/// `0100007F:220D`: the address as 32-bit words in the machine's own order, and the port as a plain number.
fn address(column: &str) -> Option<SocketAddr> {
    let (ip, port) = column.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(ip)?)),
        32 => {
            let mut octets = [0; 16];
            for (index, four) in octets.chunks_exact_mut(4).enumerate() {
                four.copy_from_slice(&word(ip.get(index * 8..index * 8 + 8)?)?);
            }
            IpAddr::V6(Ipv6Addr::from(octets))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

fn word(hex: &str) -> Option<[u8; 4]> {
    u32::from_str_radix(hex, 16).ok().map(u32::to_ne_bytes)
}

/// A browser may reach an IPv4 address through an IPv6 socket; both spellings are the same end.
fn same(one: SocketAddr, other: SocketAddr) -> bool {
    one.ip().to_canonical() == other.ip().to_canonical() && one.port() == other.port()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by Linux 6: listeners of root on port 8790, clients of uid 1000 over IPv4, IPv4 in IPv6 and IPv6, and two
    /// sockets that their owner has closed (rows 6 and 7).
    const TCP: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   1: 0100007F:2256 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 41206 1 00000000e3cb7262 100 0 0 10 0
   2: 0100007F:2256 0100007F:880E 01 00000000:00000000 00:00000000 00000000     0        0 41212 1 000000008ca0bd1f 20 0 0 10 -1
   3: 0100007F:2256 0100007F:8808 01 00000000:00000000 00:00000000 00000000     0        0 41211 1 00000000e58e85c9 20 0 0 10 -1
   4: 0100007F:2256 0100007F:881A 08 00000000:00000001 00:00000000 00000000     0        0 41215 2 00000000828a932a 20 0 1 10 -1
   5: 0100007F:8808 0100007F:2256 01 00000000:00000000 00:00000000 00000000  1000        0 41208 2 000000004fe22cb8 20 0 0 10 -1
   6: 0100007F:881A 0100007F:2256 04 00000001:00000000 01:00000014 00000000     0        0 0 2 0000000085ea61ca 20 0 0 10 -1
   7: 0100007F:881E 0100007F:2256 06 00000000:00000000 03:00001770 00000000     0        0 0 3 000000003f73db54
";
    const TCP6: &str = "\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000001000000:2256 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 41207 1 00000000b20f3322 100 0 0 10 0
   1: 00000000000000000000000001000000:2256 00000000000000000000000001000000:D3AA 01 00000000:00000000 00:00000000 00000000     0        0 41213 1 0000000022077a7d 20 0 0 10 -1
   2: 0000000000000000FFFF00000100007F:880E 0000000000000000FFFF00000100007F:2256 01 00000000:00000000 00:00000000 00000000  1000        0 41210 2 000000001e3d367a 20 0 0 10 -1
   3: 00000000000000000000000001000000:D3AA 00000000000000000000000001000000:2256 01 00000000:00000000 00:00000000 00000000  1000        0 41209 2 000000009e214047 20 0 0 10 -1
";

    fn uid(table: &str, near: &str, far: &str) -> Option<u32> {
        uid_of(table, near.parse().unwrap(), far.parse().unwrap())
    }

    #[test]
    fn the_browsers_own_end_is_found_and_not_ours() {
        let ours = "127.0.0.1:8790";
        assert_eq!(uid(TCP, "127.0.0.1:34824", ours), Some(1000));
        assert_eq!(uid(TCP6, "[::1]:54186", "[::1]:8790"), Some(1000));
        assert_eq!(uid(TCP, ours, "127.0.0.1:34824"), Some(0));
    }

    #[test]
    fn ipv4_through_an_ipv6_socket_is_the_same_end() {
        assert_eq!(uid(TCP, "127.0.0.1:34830", "127.0.0.1:8790"), None);
        assert_eq!(uid(TCP6, "127.0.0.1:34830", "127.0.0.1:8790"), Some(1000));
        assert_eq!(uid(TCP6, "[::ffff:127.0.0.1]:34830", "127.0.0.1:8790"), Some(1000));
    }

    #[test]
    fn a_socket_that_has_been_closed_is_nobodys_and_not_roots() {
        for port in [34842, 34846] {
            assert_eq!(uid(TCP, &format!("127.0.0.1:{port}"), "127.0.0.1:8790"), None);
        }
        let orphan = TCP.replace("41208", "0");
        assert_eq!(uid(&orphan, "127.0.0.1:34824", "127.0.0.1:8790"), None);
    }

    #[test]
    fn a_user_without_a_number_here_is_nobody() {
        let foreign = TCP.replace("  1000 ", " 65534 ");
        assert_eq!(uid(&foreign, "127.0.0.1:34824", "127.0.0.1:8790"), None);
    }

    #[test]
    fn all_four_numbers_have_to_fit() {
        for (near, far) in [
            ("127.0.0.1:34825", "127.0.0.1:8790"),
            ("127.0.0.1:34824", "127.0.0.1:8791"),
            ("127.0.0.2:34824", "127.0.0.1:8790"),
            ("127.0.0.1:34824", "127.0.0.2:8790"),
            ("[::1]:34824", "[::1]:8790"),
        ] {
            assert_eq!(uid(TCP, near, far), None, "{near} {far}");
        }
    }

    #[test]
    fn a_list_of_another_form_names_nobody() {
        for table in ["", "header\n", "header\n 1: x y z\n", "header\n 1: 0100007F:8808 0100007F:2256 01\n"] {
            assert_eq!(uid(table, "127.0.0.1:34824", "127.0.0.1:8790"), None, "{table:?}");
        }
    }

    #[tokio::test]
    async fn the_kernel_says_that_our_own_connection_is_ours() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, peer) = listener.accept().await.unwrap();
        let me = rustix::process::geteuid().as_raw();
        let expected = if me == OVERFLOW_UID { Visitor::Unknown } else { Visitor::Person(Subject::from_uid(me)) };
        assert_eq!(visitor(peer, accepted.local_addr().unwrap()).await, expected);
        drop(client);
    }
}
