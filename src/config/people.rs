//! The users and groups of this machine by name, from the system's own files: a daemon asks no directory service before it
//! starts.

use std::fs;

/// What stands in `/etc/passwd` and `/etc/group`.
#[derive(Clone, Debug, Default)]
pub struct People {
    passwd: String,
    group: String,
}

impl People {
    /// Those of this machine. A file that cannot be read has nobody in it.
    #[must_use]
    pub fn of_this_machine() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self { passwd: read("/etc/passwd"), group: read("/etc/group") }
    }

    /// Those in these texts.
    #[cfg(test)]
    pub(super) fn of(passwd: &str, group: &str) -> Self {
        Self { passwd: passwd.to_owned(), group: group.to_owned() }
    }

    /// The number of a user.
    #[must_use]
    pub fn uid(&self, name: &str) -> Option<u32> {
        number(&self.passwd, name)
    }

    /// The number of a group.
    #[must_use]
    pub fn gid(&self, name: &str) -> Option<u32> {
        number(&self.group, name)
    }
}

/// The third field of the line that begins with `name`; both files have it there.
fn number(text: &str, name: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_the_number_of_its_line() {
        let people = People::of(
            "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000:,,,:/home/alice:/bin/sh\nbad:x:y\n",
            "dev:x:50:alice\n",
        );
        for (name, uid) in [("alice", Some(1000)), ("root", Some(0)), ("ali", None), ("bad", None), ("", None)] {
            assert_eq!(people.uid(name), uid, "{name}");
        }
        assert_eq!((people.gid("dev"), people.gid("alice")), (Some(50), None));
    }
}
