//! Members of a zip archive that are stored as they are. Nothing is unpacked, and nothing is read but the directory at the
//! archive's end and the header of each member that is asked for. (APPNOTE.TXT 6.3.10, PKWARE.)

use std::collections::HashMap;
use std::ops::Range;

/// Signatures, and the bytes of each record without its variable parts.
const END: (&[u8; 4], usize) = (b"PK\x05\x06", 22);
const END_64: (&[u8; 4], usize) = (b"PK\x06\x06", 56);
const LOCATOR_64: (&[u8; 4], usize) = (b"PK\x06\x07", 20);
const ENTRY: (&[u8; 4], usize) = (b"PK\x01\x02", 46);
const LOCAL: (&[u8; 4], usize) = (b"PK\x03\x04", 30);
/// The longest comment behind the end record.
const MAX_COMMENT: usize = 65_535;
/// Far above the tensors that models have; bounds the memory of a directory.
const MAX_MEMBERS: usize = 1 << 18;
/// The tag of the extra field with sizes beyond 32 bits.
const ZIP64_TAG: u16 = 1;
const STORED: u16 = 0;

/// What is wrong: where, what was expected, what was found.
#[derive(Debug)]
pub struct Wrong {
    pub offset: usize,
    pub expected: &'static str,
    pub found: String,
}

impl Wrong {
    pub fn new(offset: usize, expected: &'static str, found: impl Into<String>) -> Self {
        Self { offset, expected, found: found.into() }
    }
}

/// The directory of an archive.
pub struct Archive<'a> {
    bytes: &'a [u8],
    members: HashMap<&'a str, Member>,
}

struct Member {
    method: u16,
    size: u64,
    header: u64,
}

impl<'a> Archive<'a> {
    pub fn open(bytes: &'a [u8]) -> Result<Self, Wrong> {
        let (start, count) = directory(bytes)?;
        let mut members = HashMap::new();
        let mut at = start;
        for _ in 0..count {
            let entry = record(bytes, at, ENTRY, "an entry of the archive's directory")?;
            let lengths = [28, 30, 32].map(|field| usize::from(u16_at(entry, field)));
            let name = at + ENTRY.1;
            let extra = name + lengths[0];
            let end = extra + lengths[1] + lengths[2];
            let text = bytes.get(name..extra).and_then(|name| std::str::from_utf8(name).ok());
            let text = text.ok_or_else(|| Wrong::new(at, "a member's name in UTF-8", "other bytes"))?;
            let extra = bytes.get(extra..extra + lengths[1]);
            let extra = extra.ok_or_else(|| Wrong::new(at, "a whole entry", "the end of the file"))?;
            let member = member(entry, extra);
            if members.insert(text, member).is_some() {
                return Err(Wrong::new(at, "names used once", format!("{text:?} again")));
            }
            at = end;
        }
        Ok(Self { bytes, members })
    }

    pub fn names(&self) -> impl Iterator<Item = &'a str> {
        self.members.keys().copied()
    }

    /// The place of a member's data; `None` where there is no such member.
    pub fn find(&self, name: &str) -> Result<Option<Range<usize>>, Wrong> {
        let Some(member) = self.members.get(name) else { return Ok(None) };
        let at = usize::try_from(member.header).unwrap_or(usize::MAX);
        if member.method != STORED {
            return Err(Wrong::new(
                at,
                "members that are stored",
                format!("{name:?} in compression {}", member.method),
            ));
        }
        let local = record(self.bytes, at, LOCAL, "the header of a member")?;
        let start = at + LOCAL.1 + usize::from(u16_at(local, 26)) + usize::from(u16_at(local, 28));
        let end = usize::try_from(member.size).ok().and_then(|size| start.checked_add(size));
        match end.filter(|end| *end <= self.bytes.len()) {
            Some(end) => Ok(Some(start..end)),
            None => Err(Wrong::new(at, "data inside the file", format!("{} bytes of {name:?}", member.size))),
        }
    }
}

/// Where the directory begins, and how many entries it has.
fn directory(bytes: &[u8]) -> Result<(usize, usize), Wrong> {
    let first = bytes.len().saturating_sub(END.1 + MAX_COMMENT);
    let last = bytes.len().saturating_sub(END.1);
    let found = (first..=last).rev().find(|&at| bytes[at..].starts_with(END.0) && bytes.len() - at >= END.1);
    let at = found.ok_or_else(|| Wrong::new(bytes.len(), "a directory at the end of the archive", "none"))?;
    let end = &bytes[at..];
    let (mut count, mut start) = (u64::from(u16_at(end, 10)), u64::from(u32_at(end, 16)));
    if count == u64::from(u16::MAX) || start == u64::from(u32::MAX) {
        let locator = at.checked_sub(LOCATOR_64.1).ok_or_else(|| Wrong::new(at, "a 64-bit directory", "none"))?;
        let end = u64_at(record(bytes, locator, LOCATOR_64, "the place of the 64-bit directory")?, 8);
        let end = record(bytes, usize::try_from(end).unwrap_or(usize::MAX), END_64, "the end of a 64-bit directory")?;
        (count, start) = (u64_at(end, 32), u64_at(end, 48));
    }
    match (usize::try_from(start), usize::try_from(count)) {
        (Ok(start), Ok(count)) if start <= at && count <= MAX_MEMBERS && count <= (at - start) / ENTRY.1 => {
            Ok((start, count))
        }
        _ => Err(Wrong::new(at, "a directory that fits the file", format!("{count} entries from byte {start}"))),
    }
}

/// Sizes of 2^32 - 1 stand for those in the extra field, in which they come in this order.
fn member(entry: &[u8], extra: &[u8]) -> Member {
    let (mut size, mut header) = (u64::from(u32_at(entry, 24)), u64::from(u32_at(entry, 42)));
    let mut rest = extra;
    while rest.len() >= 4 {
        let (tag, len) = (u16_at(rest, 0), usize::from(u16_at(rest, 2)));
        let field = &rest[4..rest.len().min(4 + len)];
        if tag == ZIP64_TAG {
            let mut values = field.as_chunks::<8>().0.iter().map(|value| u64::from_le_bytes(*value));
            let large = u64::from(u32::MAX);
            if size == large {
                size = values.next().unwrap_or(size);
            }
            if u64::from(u32_at(entry, 20)) == large {
                values.next();
            }
            if header == large {
                header = values.next().unwrap_or(header);
            }
        }
        rest = &rest[rest.len().min(4 + len)..];
    }
    Member { method: u16_at(entry, 10), size, header }
}

/// The fixed part of a record, whose signature is checked.
fn record<'a>(
    bytes: &'a [u8],
    at: usize,
    (signature, len): (&[u8; 4], usize),
    expected: &'static str,
) -> Result<&'a [u8], Wrong> {
    let found = at.checked_add(len).and_then(|end| bytes.get(at..end));
    found.filter(|found| found.starts_with(signature)).ok_or_else(|| Wrong::new(at, expected, "other bytes"))
}

/// Callers have checked the length.
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
