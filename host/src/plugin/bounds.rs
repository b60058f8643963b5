//! What a component may be made of, looked at before anything is made of it.
//!
//! A few kilobytes can be written so that checking or compiling them overflows the stack, fills all memory or takes hours:
//! types inside of types, components that instantiate each other, functions in which every loop concerns every variable.
//! Nothing that is at work on them can be interrupted. So one pass over the file, without recursion and in time
//! proportional to its size, refuses what is far beyond anything that compilers make.

use std::ops::Range;

use wasmparser::{
    BinaryReaderError, ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentTypeRef, Encoding, Parser,
    Payload,
};

use super::PluginError;
use super::code::Module;

/// Types that begin inside of another type, in one section. A type inside of a type inside of a type takes stack of whoever
/// reads it, about a kilobyte each; wasmtime itself takes no more than 100 levels.
const MAX_INNER_TYPES: usize = 200;
/// Components and modules inside of each other. Each level is some kilobytes of a validator's memory.
const MAX_DEPTH: usize = 100;
/// A component with all that it instantiates written out, in bytes without core code. Wasmtime writes it out: a component
/// that instantiates a second ten times, which instantiates a third ten times, has the third a hundred times. Each byte
/// becomes about a hundred.
const MAX_WRITTEN_OUT_BYTES: u64 = 1 << 20;

/// Why a component is not looked at further.
pub(super) enum Refusal {
    /// It breaks off, or is no component.
    Malformed(BinaryReaderError),
    /// It has more of something than a plugin may have.
    TooMuch(String),
}

pub(super) type Checked = Result<(), Refusal>;

impl From<BinaryReaderError> for Refusal {
    fn from(error: BinaryReaderError) -> Self {
        Self::Malformed(error)
    }
}

impl From<Refusal> for PluginError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Malformed(error) => Self::NotAComponent(error.to_string()),
            Refusal::TooMuch(what) => Self::TooExpensive(what),
        }
    }
}

/// Refuses what more of something makes than there may be.
pub(super) fn at_most(max: u64, found: u64, what: &str) -> Checked {
    if found > max { Err(Refusal::TooMuch(format!("{found} {what}, at most {max} are allowed"))) } else { Ok(()) }
}

/// Refuses a component that would cost too much to check or to compile. `max_function_bytes` is the size that a function may
/// have.
pub(super) fn check(bytes: &[u8], max_function_bytes: u64) -> Checked {
    let mut pass = Pass { bytes, max_function_bytes, open: Vec::new(), largest: 0, types: 0, functions: 0 };
    for payload in Parser::new(0).parse_all(bytes) {
        pass.payload(payload?)?;
    }
    Ok(())
}

/// What the pass is inside of.
enum Open {
    /// A component, and how large it is so far, written out.
    Component(u64),
    Module(Module),
}

struct Pass<'a> {
    bytes: &'a [u8],
    max_function_bytes: u64,
    open: Vec<Open>,
    /// The largest component that has ended, written out.
    largest: u64,
    /// Types of functions, in all modules.
    types: u64,
    /// Functions, in all modules.
    functions: u64,
}

impl Pass<'_> {
    fn payload(&mut self, payload: Payload<'_>) -> Checked {
        match payload {
            Payload::Version { encoding, .. } => {
                at_most(MAX_DEPTH as u64, self.open.len() as u64 + 1, "components and modules inside of each other")?;
                self.open.push(match encoding {
                    Encoding::Component => Open::Component(0),
                    Encoding::Module => Open::Module(Module::default()),
                });
            }
            Payload::End(_) => {
                if let Some(Open::Component(size)) = self.open.pop() {
                    self.largest = self.largest.max(size);
                }
            }
            // What is inside comes on its own; other tools' sections are skipped by all who read.
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } | Payload::CustomSection(_) => {}
            section => match self.open.last_mut() {
                Some(Open::Module(module)) => {
                    module.section(section, self.max_function_bytes, &mut self.types, &mut self.functions)?;
                }
                Some(Open::Component(size)) => {
                    *size = size.saturating_add(component_section(section, self.bytes, self.largest)?);
                    at_most(MAX_WRITTEN_OUT_BYTES, *size, "bytes of a component with all its instances written out")?;
                }
                None => {}
            },
        }
        Ok(())
    }
}

/// How large a section of a component is, with what it instantiates. Of that only the largest that it could be is known:
/// what was defined before, and not handed in, for that is refused.
fn component_section(payload: Payload<'_>, bytes: &[u8], largest: u64) -> Result<u64, Refusal> {
    let mut size = payload.as_section().map_or(0, |(_, range)| range.end.saturating_sub(range.start));
    match payload {
        Payload::ComponentTypeSection(section) => check_inner_types(slice(bytes, &section.range()))?,
        Payload::ComponentInstanceSection(section) => {
            for instance in section {
                if let ComponentInstance::Instantiate { .. } = instance? {
                    size = size.saturating_add(largest);
                }
            }
        }
        Payload::ComponentImportSection(section) => {
            for import in section {
                if let ComponentTypeRef::Component(_) = import?.ty {
                    return Err(Refusal::TooMuch("components that are handed to components".to_owned()));
                }
            }
        }
        Payload::ComponentAliasSection(section) => {
            for alias in section {
                if let ComponentAlias::InstanceExport { kind: ComponentExternalKind::Component, .. } = alias? {
                    return Err(Refusal::TooMuch("components that are taken out of instances".to_owned()));
                }
            }
        }
        _ => {}
    }
    Ok(size)
}

/// Types are read by recursion, so this looks at bytes: one that begins inside of another is a 1, for a type, and then the
/// byte for a component's or an instance's. The pair can stand for something else too, and does so a few times in large
/// components.
fn check_inner_types(section: &[u8]) -> Checked {
    let pairs = section.windows(2).filter(|pair| matches!(pair, [0x01, 0x41 | 0x42])).count();
    at_most(MAX_INNER_TYPES as u64, pairs as u64, "types inside of types")
}

fn slice<'a>(bytes: &'a [u8], range: &Range<u64>) -> &'a [u8] {
    let index = |place: u64| usize::try_from(place).unwrap_or(usize::MAX);
    bytes.get(index(range.start)..index(range.end)).unwrap_or_default()
}
