//! The two hash tables of the hot path: token bytes to id, and a pair of ids to what it becomes.
//!
//! Both are open-addressed with linear probing over a power-of-two number of slots, filled once
//! and at most two thirds full, so a lookup mostly touches one cache line.

/// Marks a free slot; no token has this id.
pub(super) const NO_ID: u32 = u32::MAX;

const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;
const WHITENING: u64 = 0xD6E8_FEB8_6659_FD93;

/// Both halves of the 128-bit product, folded: every input bit reaches every output bit.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// The first eight bytes, little-endian, padded with zeros.
fn prefix(bytes: &[u8]) -> u64 {
    if let Some(first) = bytes.first_chunk() {
        return u64::from_le_bytes(*first);
    }
    // Loads that overlap where the length is odd give the same bits twice.
    let len = bytes.len();
    match (bytes.first_chunk(), bytes.last_chunk()) {
        (Some(low), Some(high)) => {
            u64::from(u32::from_le_bytes(*low)) | u64::from(u32::from_le_bytes(*high)) << (8 * (len - 4))
        }
        _ if len == 0 => 0,
        _ => [0, len / 2, len - 1].into_iter().fold(0, |word, at| word | u64::from(bytes[at]) << (8 * at)),
    }
}

/// Hash of a byte string with its [`prefix`].
fn hash(bytes: &[u8], prefix: u64) -> u64 {
    let mut hash = fold(prefix ^ (bytes.len() as u64).wrapping_mul(MULTIPLIER), MULTIPLIER);
    if bytes.len() > 8 {
        for chunk in bytes[8..].as_chunks().0 {
            hash = fold(hash ^ u64::from_le_bytes(*chunk), MULTIPLIER);
        }
        // The last eight bytes cover the rest, however many are left.
        let last = bytes.last_chunk().map_or(0, |last| u64::from_le_bytes(*last));
        hash = fold(hash ^ last, WHITENING);
    }
    hash
}

fn slots_for(entries: usize) -> usize {
    (entries + entries / 2).next_power_of_two().max(16)
}

/// Byte strings to ids. Strings of more than eight bytes stay with the caller, who compares them.
#[derive(Debug)]
pub(super) struct ByteMap {
    slots: Box<[ByteSlot]>,
}

#[derive(Debug, Clone, Copy)]
struct ByteSlot {
    prefix: u64,
    len: u32,
    id: u32,
}

impl ByteMap {
    /// Room for `entries` insertions.
    pub fn with_capacity(entries: usize) -> Self {
        let free = ByteSlot { prefix: 0, len: 0, id: NO_ID };
        Self { slots: vec![free; slots_for(entries)].into_boxed_slice() }
    }

    /// The id of `key`. `is_equal` says whether an id's bytes are those of `key`.
    pub fn find(&self, key: &[u8], is_equal: impl Fn(u32) -> bool) -> Option<u32> {
        let slot = self.slots[self.probe(key, prefix(key), is_equal)];
        (slot.id != NO_ID).then_some(slot.id)
    }

    /// Maps `key`, shorter than 4 GiB, to `id`. Returns the id that it was mapped to before.
    pub fn insert(&mut self, key: &[u8], id: u32, is_equal: impl Fn(u32) -> bool) -> Option<u32> {
        let prefix = prefix(key);
        let at = self.probe(key, prefix, is_equal);
        let before = std::mem::replace(&mut self.slots[at], ByteSlot { prefix, len: key.len() as u32, id });
        (before.id != NO_ID).then_some(before.id)
    }

    /// The slot that holds the key, or the free one where it belongs.
    fn probe(&self, key: &[u8], prefix: u64, is_equal: impl Fn(u32) -> bool) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = hash(key, prefix) as usize & mask;
        loop {
            let slot = &self.slots[at];
            let alike = slot.prefix == prefix && slot.len as usize == key.len();
            if slot.id == NO_ID || (alike && (key.len() <= 8 || is_equal(slot.id))) {
                return at;
            }
            at = (at + 1) & mask;
        }
    }
}

/// What a pair of ids maps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PairValue {
    /// For merges: the merge's rank, lower first.
    pub rank: u32,
    /// The id that the pair becomes.
    pub id: u32,
}

#[derive(Debug, Clone, Copy)]
struct PairSlot {
    left: u32,
    right: u32,
    value: PairValue,
}

/// Pairs of ids to [`PairValue`].
#[derive(Debug)]
pub(super) struct PairMap {
    slots: Box<[PairSlot]>,
}

impl PairMap {
    /// Room for `entries` insertions.
    pub fn with_capacity(entries: usize) -> Self {
        let free = PairSlot { left: NO_ID, right: NO_ID, value: PairValue { rank: 0, id: 0 } };
        Self { slots: vec![free; slots_for(entries)].into_boxed_slice() }
    }

    pub fn get(&self, left: u32, right: u32) -> Option<PairValue> {
        let slot = self.slots[self.probe(left, right)];
        (slot.left != NO_ID).then_some(slot.value)
    }

    /// Sets the pair's value; a later one replaces an earlier one.
    pub fn insert(&mut self, left: u32, right: u32, value: PairValue) {
        let at = self.probe(left, right);
        self.slots[at] = PairSlot { left, right, value };
    }

    fn probe(&self, left: u32, right: u32) -> usize {
        let mask = self.slots.len() - 1;
        let key = u64::from(left) << 32 | u64::from(right);
        let mut at = fold(key ^ WHITENING, MULTIPLIER) as usize & mask;
        loop {
            let slot = &self.slots[at];
            if slot.left == NO_ID || (slot.left == left && slot.right == right) {
                return at;
            }
            at = (at + 1) & mask;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_keep_their_last_value() {
        let mut map = PairMap::with_capacity(1000);
        for i in 0..1000 {
            map.insert(i, i / 3, PairValue { rank: 7, id: 7 });
            map.insert(i, i / 3, PairValue { rank: i, id: i + 1 });
        }
        for i in 0..1000 {
            assert_eq!(map.get(i, i / 3), Some(PairValue { rank: i, id: i + 1 }));
            assert_eq!(map.get(i, i / 3 + 1), None);
        }
    }

    #[test]
    fn prefixes_are_the_first_bytes() {
        for len in 0..=9 {
            let bytes: Vec<u8> = (1..=len).collect();
            let mut padded = [0; 8];
            let kept = bytes.len().min(8);
            padded[..kept].copy_from_slice(&bytes[..kept]);
            assert_eq!(prefix(&bytes), u64::from_le_bytes(padded), "{len}");
        }
    }

    #[test]
    fn strings_differ_by_length_and_by_each_byte() {
        let base = b"abcdefghijklmnopqrstu";
        let mut keys = Vec::new();
        for len in 0..=base.len() {
            keys.push(base[..len].to_vec());
            keys.extend((0..len).map(|at| {
                let mut other = base[..len].to_vec();
                other[at] ^= 1;
                other
            }));
        }
        let mut map = ByteMap::with_capacity(keys.len());
        for (key, id) in keys.iter().zip(0..) {
            assert_eq!(map.find(key, |id| keys[id as usize] == *key), None);
            assert_eq!(map.insert(key, id, |id| keys[id as usize] == *key), None);
        }
        for (key, id) in keys.iter().zip(0..) {
            assert_eq!(map.find(key, |id| keys[id as usize] == *key), Some(id));
        }
    }
}
