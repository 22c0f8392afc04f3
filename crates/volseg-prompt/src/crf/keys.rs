//! Numbers for lattice vertices: an open-addressed table of integer keys in order of first use.

/// Vertices by key. The numbers count up from 0 in order of first insertion, whatever the hash is.
pub(super) struct KeyTable<const D: usize> {
    keys: Vec<[i32; D]>,
    /// Number + 1; 0 is free. The length is a power of two, at most half of it is used.
    slots: Vec<u32>,
}

impl<const D: usize> KeyTable<D> {
    pub(super) fn new() -> Self {
        Self { keys: Vec::new(), slots: vec![0; 256] }
    }

    pub(super) fn keys(&self) -> &[[i32; D]] {
        &self.keys
    }

    pub(super) fn get(&self, key: &[i32; D]) -> Option<u32> {
        self.slots[self.slot(key)].checked_sub(1)
    }

    pub(super) fn number(&mut self, key: [i32; D]) -> u32 {
        let slot = self.slot(&key);
        if let Some(number) = self.slots[slot].checked_sub(1) {
            return number;
        }
        self.keys.push(key);
        let count = self.keys.len() as u32;
        self.slots[slot] = count;
        if 2 * self.keys.len() > self.slots.len() {
            self.grow();
        }
        count - 1
    }

    fn grow(&mut self) {
        self.slots = vec![0; 4 * self.slots.len()];
        for n in 0..self.keys.len() {
            let slot = self.slot(&self.keys[n]);
            self.slots[slot] = n as u32 + 1;
        }
    }

    /// The slot that holds the key, or the free one where it belongs.
    fn slot(&self, key: &[i32; D]) -> usize {
        let hash = key.iter().fold(0u64, |h, k| (h ^ u64::from(*k as u32)).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mask = self.slots.len() - 1;
        let mut at = (hash >> 32) as usize & mask;
        while let Some(number) = self.slots[at].checked_sub(1) {
            if self.keys[number as usize] == *key {
                break;
            }
            at = (at + 1) & mask;
        }
        at
    }
}
