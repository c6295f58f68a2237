//! Zip archives of what is to be fuzzed, since mutations seldom leave an archive whole.

/// An archive with these members, which are stored as they are.
pub fn of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in members {
        let (start, size) = (out.len() as u32, (data.len() as u32).to_le_bytes());
        let sizes = [size, size].concat();
        out.extend(b"PK\x03\x04");
        out.extend([0; 14]);
        out.extend(&sizes);
        out.extend([name.len() as u8, 0, 0, 0]);
        out.extend(name.as_bytes());
        out.extend(*data);
        directory.extend(b"PK\x01\x02");
        directory.extend([0; 16]);
        directory.extend(&sizes);
        directory.extend([name.len() as u8]);
        directory.extend([0; 13]);
        directory.extend(start.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let place = [directory.len() as u32, out.len() as u32].map(u32::to_le_bytes).concat();
    let count = (members.len() as u16).to_le_bytes();
    out.extend(directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend([count, count].concat());
    out.extend(place);
    out.extend([0; 2]);
    out
}
