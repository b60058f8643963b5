//! Changes to components, as an input says: what is in sections changes, and their sizes stay right, so that more gets past
//! the first look than by changing any byte.

/// The bytes of one instruction.
const INSTRUCTION: usize = 6;
/// The sections of a component that have a binary inside: core modules and components.
const NESTING: [u8; 2] = [1, 4];

/// A component or core module in sections.
struct Binary {
    header: [u8; 8],
    sections: Vec<Section>,
}

struct Section {
    id: u8,
    content: Content,
}

enum Content {
    Bytes(Vec<u8>),
    Nested(Binary),
}

/// Changes a component by each instruction in turn. What is no component stays as it is.
#[must_use]
pub fn mutated(component: &[u8], instructions: &[u8]) -> Vec<u8> {
    let Some(mut binary) = Binary::read(component) else { return component.to_vec() };
    for &instruction in instructions.as_chunks::<INSTRUCTION>().0 {
        binary.change(instruction);
    }
    let mut bytes = Vec::with_capacity(component.len());
    binary.write(&mut bytes);
    bytes
}

impl Binary {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (&header, mut rest) = bytes.split_first_chunk::<8>()?;
        // Core modules have the version 1 of layer 0; only components nest.
        let nests = header.get(4..)? != [1, 0, 0, 0];
        let mut sections = Vec::new();
        while let Some((&id, after_id)) = rest.split_first() {
            let (size, after_size) = read_number(after_id)?;
            let (content, after) = after_size.split_at_checked(size)?;
            let nested = (nests && NESTING.contains(&id)).then(|| Self::read(content)).flatten();
            let content = nested.map_or_else(|| Content::Bytes(content.to_vec()), Content::Nested);
            sections.push(Section { id, content });
            rest = after;
        }
        Some(Self { header, sections })
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.header);
        for Section { id, content } in &self.sections {
            let mut inside = Vec::new();
            let content = match content {
                Content::Bytes(content) => content,
                Content::Nested(binary) => {
                    binary.write(&mut inside);
                    &inside
                }
            };
            bytes.push(*id);
            write_number(content.len(), bytes);
            bytes.extend(content);
        }
    }

    /// How many sections there are, those inside others included.
    fn count(&self) -> usize {
        let inside = |section: &Section| match &section.content {
            Content::Bytes(_) => 0,
            Content::Nested(binary) => binary.count(),
        };
        self.sections.iter().map(|section| 1 + inside(section)).sum()
    }

    fn change(&mut self, [kind, section, offset_high, offset_low, value, length]: [u8; INSTRUCTION]) {
        let count = self.count();
        if count == 0 {
            return;
        }
        let offset = usize::from(u16::from_be_bytes([offset_high, offset_low]));
        self.change_at(usize::from(section) % count, kind, offset, value, usize::from(length));
    }

    /// Changes the section that is this many sections away from the first.
    fn change_at(&mut self, mut distance: usize, kind: u8, offset: usize, value: u8, length: usize) {
        for index in 0..self.sections.len() {
            if distance == 0 {
                return self.change_section(index, kind, offset, value, length);
            }
            distance -= 1;
            if let Content::Nested(binary) = &mut self.sections[index].content {
                let count = binary.count();
                if distance < count {
                    return binary.change_at(distance, kind, offset, value, length);
                }
                distance -= count;
            }
        }
    }

    fn change_section(&mut self, index: usize, kind: u8, offset: usize, value: u8, length: usize) {
        match kind % 10 {
            0 => drop(self.sections.remove(index)),
            1 => {
                let Section { id, content } = &self.sections[index];
                let content = match content {
                    Content::Bytes(bytes) => Content::Bytes(bytes.clone()),
                    Content::Nested(Binary { header, .. }) => {
                        Content::Nested(Self { header: *header, sections: Vec::new() })
                    }
                };
                let twin = Section { id: *id, content };
                self.sections.insert(index, twin);
            }
            2 => {
                let other = offset % self.sections.len();
                self.sections.swap(index, other);
            }
            3 => self.sections[index].id = value,
            kind => match &mut self.sections[index].content {
                Content::Bytes(bytes) => change_bytes(bytes, kind, offset, value, length),
                Content::Nested(binary) => binary.header[offset % 8] = value,
            },
        }
    }
}

fn change_bytes(bytes: &mut Vec<u8>, kind: u8, offset: usize, value: u8, length: usize) {
    let start = offset % (bytes.len() + 1);
    let end = (start + length).min(bytes.len());
    match kind {
        4 => bytes.insert(start, value),
        5 => drop(bytes.drain(start..end)),
        // Repeats what is there.
        6 => {
            let copy = bytes[start..end].to_vec();
            bytes.splice(start..start, copy);
        }
        7 => bytes[start..end].fill(value),
        kind => {
            if let Some(byte) = bytes.get_mut(start) {
                *byte = if kind == 8 { value } else { byte.wrapping_add(value) };
            }
        }
    }
}

/// A number of up to 32 bits, seven in each byte, and what comes after it.
fn read_number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut number = 0;
    for (index, byte) in bytes.iter().enumerate().take(5) {
        number |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((number, &bytes[index + 1..]));
        }
    }
    None
}

fn write_number(mut number: usize, bytes: &mut Vec<u8>) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guests;

    #[test]
    fn what_no_instruction_changes_is_the_same_component() {
        for component in [guests::plugin(guests::ANSWERS), convgroups_host::plugin::BUNDLED.to_vec()] {
            let binary = Binary::read(&component).expect("a component");
            assert!(binary.count() > binary.sections.len(), "it has a module in it");
            // Sizes may be written with more bytes than they need: once written here they stay.
            let written = mutated(&component, &[]);
            assert_eq!(mutated(&written, &[]), written);
        }
    }
}
