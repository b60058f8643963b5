//! What the functions of a module cost to compile, by rules of thumb that were measured: most of it goes by the size, some of
//! it by products that a small function can make large.

use std::ops::Range;

use wasmparser::{BlockType, CompositeInnerType, FunctionBody, Operator, Payload, TypeRef};

use super::bounds::{Checked, at_most};

/// Functions of a plugin, imports included. Each is some five kilobytes until all are compiled.
const MAX_FUNCTIONS: u64 = 50_000;
/// Types of functions. Each may need code of its own to be called by, some fifteen kilobytes while it is compiled.
const MAX_TYPES: u64 = 10_000;
/// Instructions of a function, and values that its calls, blocks and branches take and give. Each is one to two kilobytes
/// while it is compiled.
const MAX_STEPS: u64 = 300_000;
/// The loops of a function times its variables: at worst there is a value for each in each. Some hundred bytes each, and a
/// microsecond.
const MAX_VARIABLES_IN_LOOPS: u64 = 1_000_000;
/// As well with all other places where control flow joins or parts, which are cheaper.
const MAX_VARIABLES_IN_BLOCKS: u64 = 15_000_000;

/// What has been seen of a module: how many values each function type takes and gives, and so each function.
#[derive(Default)]
pub(super) struct Module {
    types: Vec<u64>,
    functions: Vec<u64>,
    imported: usize,
    bodies: usize,
}

impl Module {
    /// Looks at the next section. `types` and `functions` count those of the whole plugin.
    pub(super) fn section(
        &mut self,
        payload: Payload<'_>,
        max_function_bytes: u64,
        types: &mut u64,
        functions: &mut u64,
    ) -> Checked {
        match payload {
            Payload::TypeSection(section) => {
                for group in section {
                    for kind in group?.types() {
                        self.types.push(match &kind.composite_type.inner {
                            CompositeInnerType::Func(kind) => (kind.params().len() + kind.results().len()) as u64,
                            _ => 0,
                        });
                        count(types, MAX_TYPES, "types of functions")?;
                    }
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    if let TypeRef::Func(index) = import?.ty {
                        self.functions.push(self.values(index));
                        self.imported += 1;
                        count(functions, MAX_FUNCTIONS, "functions")?;
                    }
                }
            }
            Payload::FunctionSection(section) => {
                for index in section {
                    self.functions.push(self.values(index?));
                    count(functions, MAX_FUNCTIONS, "functions")?;
                }
            }
            Payload::CodeSectionEntry(body) => {
                let own = self.functions.get(self.imported + self.bodies).copied().unwrap_or_default();
                self.bodies += 1;
                at_most(
                    max_function_bytes,
                    length(&body.range()),
                    "bytes of one function (sandbox.max_function_bytes)",
                )?;
                self.body(&body, own)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Looks at a function that takes and gives so many values.
    fn body(&self, body: &FunctionBody<'_>, own: u64) -> Checked {
        let mut variables = own;
        for local in body.get_locals_reader()? {
            variables = variables.saturating_add(local?.0.into());
        }
        let mut flow = Flow { labels: vec![own], steps: 0, loops: 0, blocks: 0 };
        for operator in body.get_operators_reader()? {
            self.operator(&mut flow, &operator?)?;
        }
        at_most(MAX_STEPS, flow.steps, "instructions and values in one function")?;
        at_most(MAX_VARIABLES_IN_LOOPS, flow.loops.saturating_mul(variables), "variables times loops of one function")?;
        at_most(
            MAX_VARIABLES_IN_BLOCKS,
            flow.blocks.saturating_mul(variables),
            "variables times blocks of one function",
        )
    }

    fn operator(&self, flow: &mut Flow, operator: &Operator<'_>) -> Checked {
        flow.steps += 1;
        match operator {
            Operator::Block { blockty } | Operator::If { blockty } => flow.enter(self.block(*blockty)),
            Operator::Loop { blockty } => {
                flow.enter(self.block(*blockty));
                flow.loops += 1;
            }
            Operator::Else => flow.blocks += 1,
            Operator::End => drop(flow.labels.pop()),
            Operator::Br { relative_depth } | Operator::BrIf { relative_depth } => flow.branch(*relative_depth),
            Operator::BrTable { targets } => {
                flow.branch(targets.default());
                for target in targets.targets() {
                    flow.branch(target?);
                }
            }
            Operator::Call { function_index } | Operator::ReturnCall { function_index } => {
                flow.steps += self.functions.get(*function_index as usize).copied().unwrap_or_default();
            }
            Operator::CallIndirect { type_index, .. } | Operator::ReturnCallIndirect { type_index, .. } => {
                flow.steps += self.values(*type_index);
            }
            Operator::Return => flow.steps += flow.labels.first().copied().unwrap_or_default(),
            _ => {}
        }
        Ok(())
    }

    /// How many values functions of this type take and give. What does not exist takes none; a validator refuses it.
    fn values(&self, index: u32) -> u64 {
        self.types.get(index as usize).copied().unwrap_or_default()
    }

    fn block(&self, kind: BlockType) -> u64 {
        match kind {
            BlockType::Empty => 0,
            BlockType::Type(_) => 1,
            BlockType::FuncType(index) => self.values(index),
        }
    }
}

/// What has been seen of a function.
struct Flow {
    /// The blocks that are open, and how many values each takes and gives.
    labels: Vec<u64>,
    steps: u64,
    loops: u64,
    /// Where control flow joins or parts.
    blocks: u64,
}

impl Flow {
    fn enter(&mut self, values: u64) {
        self.labels.push(values);
        self.steps += values;
        self.blocks += 1;
    }

    fn branch(&mut self, depth: u32) {
        let label = self.labels.iter().nth_back(depth as usize).copied().unwrap_or_default();
        self.steps += label + 1;
        self.blocks += 1;
    }
}

fn count(counter: &mut u64, max: u64, what: &str) -> Checked {
    *counter += 1;
    at_most(max, *counter, what)
}

fn length(range: &Range<u64>) -> u64 {
    range.end.saturating_sub(range.start)
}
