//! Plugins that attack whoever loads them, or makes an instance of them: each is a plugin as it should be with something added
//! to its file, named for what that does. What is added many times is made here; the rest is in `tests/guests/parts/`.

use convgroups_host::PluginSource;

use crate::guests::component;

/// Sections of a component, by their numbers in the binary format.
const CORE_MODULE: u8 = 1;
const COMPONENT: u8 = 4;
const INSTANCE: u8 = 5;
const TYPE: u8 = 7;

/// What is added to the plugin's file.
type Addition = fn() -> Vec<u8>;

/// Those that are not loaded, each with words of the reason.
pub const REFUSED: &[(&str, Addition, &str)] = &[
    ("nests_types", nests_types, "types inside of types"),
    ("nests_components", nests_components, "components and modules inside of each other"),
    ("multiplies_instances", multiplies_instances, "with all its instances written out"),
    ("hands_components_to_components", hands_components_to_components, "handed to components"),
    ("takes_components_out_of_instances", takes_components_out_of_instances, "taken out of instances"),
    ("has_a_hundred_core_instances", has_a_hundred_core_instances, "configured maximum of 16"),
    ("has_thousands_of_core_instances", has_thousands_of_core_instances, "instances"),
    ("has_thousands_of_instances", has_thousands_of_instances, "instances"),
    ("has_many_memories", has_many_memories, "limit of 4"),
    ("has_many_tables", has_many_tables, "limit of 16"),
    ("has_a_huge_memory", has_a_huge_memory, "memory"),
    ("has_a_huge_table", has_a_huge_table, "table"),
    ("has_types_without_end", has_types_without_end, "types of functions"),
    ("has_functions_without_end", has_functions_without_end, "functions"),
    ("has_a_huge_function", has_a_huge_function, "bytes of one function"),
    ("loops_over_many_variables", loops_over_many_variables, "variables times loops"),
    ("joins_many_variables", joins_many_variables, "variables times blocks"),
    ("passes_many_values", passes_many_values, "instructions and values"),
    ("carries_many_values_through_blocks", carries_many_values_through_blocks, "instructions and values"),
];

/// Those that are loaded, and cost about as much as anything that is.
pub const COSTLY: &[(&str, Addition)] = &[
    ("has_the_largest_function", has_the_largest_function),
    ("has_all_functions", || functions(49_000)),
    ("has_all_types", || types(9_900)),
    ("carries_all_values", || many_values("block (type $pass) end ", 490)),
    ("joins_all_variables", || joins(3_800)),
    ("slow_to_compile", slow_to_compile),
];

/// Those that are loaded, and fail whenever an instance is made of them.
pub const NEVER_START: &[(&str, Addition)] =
    &[("loops_in_core_start", loops_in_core_start), ("calls_itself", calls_itself)];

/// A plugin as it should be with something added.
#[must_use]
pub fn bomb(addition: Addition) -> PluginSource {
    let mut bytes = component("remembers").to_vec();
    bytes.extend(addition());
    PluginSource::Bytes(bytes)
}

/// One that is within all bounds, and takes some seconds to compile all the same.
#[must_use]
pub fn slow_to_compile() -> Vec<u8> {
    let function = |_| format!("(func {})", loops(1000, 900));
    module(&(0..3).map(function).collect::<String>())
}

fn nests_types() -> Vec<u8> {
    // A component's type with one declaration, which is of a type, and so on.
    let mut types = vec![1];
    types.extend([0x41, 1, 1].repeat(100_000));
    types.extend([0x41, 0]);
    section(TYPE, &types)
}

fn nests_components() -> Vec<u8> {
    // From the inside out, and so with the parts in the wrong order until the end.
    const PREAMBLE: [u8; 8] = *b"\0asm\x0d\0\x01\0";
    let mut backwards: Vec<u8> = PREAMBLE.into_iter().rev().collect();
    for _ in 0..20_000 {
        let length = leb128(backwards.len());
        backwards.extend(length.iter().rev());
        backwards.push(COMPONENT);
        backwards.extend(PREAMBLE.iter().rev());
    }
    backwards.reverse();
    section(COMPONENT, &backwards)
}

fn multiplies_instances() -> Vec<u8> {
    let level = |level: usize| {
        let instances = format!("(instance (instantiate $level{}))", level - 1).repeat(30);
        format!("(component $level{level} {instances})")
    };
    let levels: String = (1..8).map(level).collect();
    instance(&format!("(component (component $level0) {levels} (instance (instantiate $level7)))"))
}

fn hands_components_to_components() -> Vec<u8> {
    instance(r#"(component (component (import "again" (component))))"#)
}

fn takes_components_out_of_instances() -> Vec<u8> {
    let taken = r#"(instance $i (instantiate $c)) (alias export $i "inner" (component))"#;
    instance(&format!(r#"(component (component $c (component $d) (export "inner" (component $d))) {taken})"#))
}

fn has_a_hundred_core_instances() -> Vec<u8> {
    instance(&format!("(component (core module $m) {})", "(core instance (instantiate $m))".repeat(100)))
}

fn has_thousands_of_core_instances() -> Vec<u8> {
    instance(&format!("(component (core module $m) {})", "(core instance (instantiate $m))".repeat(5000)))
}

fn has_thousands_of_instances() -> Vec<u8> {
    instance(&format!("(component (component $c) {})", "(instance (instantiate $c))".repeat(5000)))
}

fn has_many_memories() -> Vec<u8> {
    instance(&format!("(component (core module $m {}) (core instance (instantiate $m)))", "(memory 1)".repeat(20)))
}

fn has_many_tables() -> Vec<u8> {
    instance(&format!(
        "(component (core module $m {}) (core instance (instantiate $m)))",
        "(table 1 funcref)".repeat(50)
    ))
}

fn has_a_huge_memory() -> Vec<u8> {
    instance("(component (core module $m (memory 60000)) (core instance (instantiate $m)))")
}

fn has_a_huge_table() -> Vec<u8> {
    instance("(component (core module $m (table 5000000 funcref)) (core instance (instantiate $m)))")
}

fn has_types_without_end() -> Vec<u8> {
    types(20_000)
}

/// Types of functions that are all different, by the digits of a number; each can be called from outside.
fn types(count: u32) -> Vec<u8> {
    let kind = |number: u32| {
        let parameters: String = (0..16).map(|bit| if number >> bit & 1 == 1 { "i32 " } else { "i64 " }).collect();
        format!("(func (export \"{number}\") (param {parameters}))")
    };
    module(&(0..count).map(kind).collect::<String>())
}

fn has_functions_without_end() -> Vec<u8> {
    functions(200_000)
}

fn functions(count: usize) -> Vec<u8> {
    module(&"(func)".repeat(count))
}

fn has_a_huge_function() -> Vec<u8> {
    module(&format!("(memory 1) (func (param i32) {})", "(drop (i32.load (local.get 0)))".repeat(200_000)))
}

/// Each access to memory is looked at in code, and so takes much of it.
fn has_the_largest_function() -> Vec<u8> {
    module(&format!("(memory 1) (func (param i32) local.get 0 {} drop)", "i32.load ".repeat(87_000)))
}

fn loops_over_many_variables() -> Vec<u8> {
    module(&format!("(func {})", loops(3000, 3000)))
}

/// Loops in each other, and inside of all of them a use of each variable.
fn loops(count: usize, variables: usize) -> String {
    let uses: String = (0..variables).map(|variable| format!("(drop (local.get {variable}))")).collect();
    let (variables, begin, end) = ("(local i32)".repeat(variables), "loop ".repeat(count), "end ".repeat(count));
    format!("{variables} {begin} {uses} {end}")
}

fn joins_many_variables() -> Vec<u8> {
    joins(8000)
}

/// So many variables, each of which one branch sets or does not, and all of which are used in the end.
fn joins(count: usize) -> Vec<u8> {
    let branch = |number| format!("(if (local.get 0) (then (local.set {number} (local.get 0))))");
    let branches: String = (1..=count).map(branch).collect();
    let uses: String = (1..=count).map(|variable| format!("(drop (local.get {variable}))")).collect();
    module(&format!("(func (param i32) {} {branches} {uses})", "(local i32)".repeat(count)))
}

fn passes_many_values() -> Vec<u8> {
    many_values("call $pass ", 3000)
}

fn carries_many_values_through_blocks() -> Vec<u8> {
    many_values("block (type $pass) end ", 3000)
}

/// A function with hundreds of values on its stack, and something that takes and gives all of them.
fn many_values(what: &str, times: usize) -> Vec<u8> {
    let values = "i32 ".repeat(300);
    module(&format!(
        "(type $pass (func (param {values}) (result {values}))) (func $pass (type $pass) unreachable) (func {} {} {})",
        "i32.const 1 ".repeat(300),
        what.repeat(times),
        "drop ".repeat(300)
    ))
}

fn loops_in_core_start() -> Vec<u8> {
    instance(include_str!("../guests/parts/loops_in_core_start.wat"))
}

fn calls_itself() -> Vec<u8> {
    instance(include_str!("../guests/parts/calls_itself.wat"))
}

/// A module that is compiled and never used.
fn module(fields: &str) -> Vec<u8> {
    section(CORE_MODULE, &binary(&format!("(module {fields})")))
}

/// A component, and an instance of it. It is the second in its plugin, after the one that has the exports.
fn instance(component: &str) -> Vec<u8> {
    let mut sections = section(COMPONENT, &binary(component));
    sections.extend(section(INSTANCE, &[1, 0, 1, 0]));
    sections
}

fn binary(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("the text is correct")
}

fn section(kind: u8, content: &[u8]) -> Vec<u8> {
    let mut section = vec![kind];
    section.extend(leb128(content.len()));
    section.extend(content);
    section
}

/// A number as the binary format has it: seven bits to a byte, the lowest first.
fn leb128(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}
