//! A set that remembers what was put in last.

use std::{
    collections::{HashSet, VecDeque},
    hash::Hash,
};

/// At most so many members; the oldest are forgotten past that.
pub(super) struct Recent<T> {
    members: HashSet<T>,
    in_order: VecDeque<T>,
    members_max: usize,
}

impl<T: Copy + Eq + Hash> Recent<T> {
    pub(super) fn new(members_max: usize) -> Self {
        Self { members: HashSet::new(), in_order: VecDeque::new(), members_max }
    }

    pub(super) fn contains(&self, member: &T) -> bool {
        self.members.contains(member)
    }

    pub(super) fn insert(&mut self, member: T) {
        if self.members.insert(member) {
            self.in_order.push_back(member);
        }
        if self.in_order.len() > self.members_max
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.members.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten() {
        let mut recent = Recent::new(2);
        for member in [1, 2, 2, 3] {
            recent.insert(member);
        }
        assert_eq!([1, 2, 3].map(|member| recent.contains(&member)), [false, true, true]);
    }
}
