//! How many connections there are, in all and of each user, and who may have one more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts connections.
#[derive(Debug)]
pub(crate) struct Census {
    total_max: usize,
    per_uid_max: usize,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    by_uid: HashMap<u32, usize>,
}

/// The place of one connection; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    census: Arc<Census>,
    uid: u32,
}

impl Census {
    pub(crate) fn new(total_max: usize, per_uid_max: usize) -> Arc<Self> {
        Arc::new(Self { total_max, per_uid_max, counts: Mutex::default() })
    }

    /// A place for one more connection of this user, if there is one.
    pub(crate) fn admit(self: &Arc<Self>, uid: u32) -> Option<Place> {
        let mut counts = self.counts();
        let of_uid = counts.by_uid.get(&uid).copied().unwrap_or_default();
        if counts.total >= self.total_max || of_uid >= self.per_uid_max {
            return None;
        }
        counts.total += 1;
        counts.by_uid.insert(uid, of_uid + 1);
        Some(Place { census: Arc::clone(self), uid })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // The counts are whole between any two statements that could panic.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.census.counts();
        counts.total -= 1;
        let left = counts.by_uid.get(&self.uid).copied().unwrap_or_default().saturating_sub(1);
        if left == 0 {
            counts.by_uid.remove(&self.uid);
        } else {
            counts.by_uid.insert(self.uid, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_cannot_take_the_places_of_another() {
        let census = Census::new(10, 2);
        let places: Vec<_> = (0..2).filter_map(|_| census.admit(1000)).collect();
        assert_eq!(places.len(), 2);
        assert!(census.admit(1000).is_none());
        assert!(census.admit(1001).is_some());
    }

    #[test]
    fn nobody_gets_a_place_beyond_the_last() {
        let census = Census::new(2, 2);
        let _places = (census.admit(1).unwrap(), census.admit(2).unwrap());
        assert!(census.admit(3).is_none());
    }

    #[test]
    fn a_place_is_given_back_and_nothing_is_kept_of_who_left() {
        let census = Census::new(1, 1);
        drop(census.admit(1000).unwrap());
        assert!(census.counts().by_uid.is_empty());
        assert!(census.admit(1000).is_some());
    }
}
