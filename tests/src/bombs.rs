//! Plugins that attack the host that loads them, or makes an instance of them. Most are a plugin as it should be with something
//! added to its file, some are files of their own; each is named for what it does. What is added many times is made here; the
//! rest is in `tests/guests/parts/`.

use convgroups_host::PluginSource;

use crate::guests::component;

/// Sections of a component, by their numbers in the binary format.
const CORE_MODULE: u8 = 1;
const COMPONENT: u8 = 4;
const INSTANCE: u8 = 5;
const TYPE: u8 = 7;

/// A section of a core module: its number and its bytes.
type CoreSection<'a> = (u8, &'a [u8]);

/// What is added to the plugin's file.
type Addition = fn() -> Vec<u8>;

/// Those that are not loaded, each with words of the reason.
pub const REFUSED: &[(&str, Addition, &str)] = &[
    ("has_a_hundred_core_instances", has_a_hundred_core_instances, "configured maximum of 16"),
    ("has_thousands_of_core_instances", has_thousands_of_core_instances, "instances"),
    ("has_thousands_of_instances", has_thousands_of_instances, "instances"),
    ("has_many_memories", has_many_memories, "limit of 4"),
    ("has_many_tables", has_many_tables, "limit of 16"),
    ("has_a_huge_memory", has_a_huge_memory, "memory"),
    ("has_a_huge_table", has_a_huge_table, "table"),
    ("lists_ten_million_element_expressions", lists_element_expressions, ""),
    ("keeps_three_million_element_expressions", || passive_elements(3_000_000), ""),
];

/// Those that cost much time or memory to check or to compile. Whether they are loaded depends on the machine and the limits.
pub const COSTLY: &[(&str, Addition)] = &[
    ("nests_types", nests_types),
    ("nests_components", nests_components),
    ("multiplies_instances", multiplies_instances),
    ("has_types_without_end", has_types_without_end),
    ("has_functions_without_end", has_functions_without_end),
    ("has_a_huge_function", has_a_huge_function),
    ("has_a_large_function", has_a_large_function),
    ("loops_over_many_variables", loops_over_many_variables),
    ("joins_many_variables", joins_many_variables),
    ("passes_many_values", passes_many_values),
    ("carries_many_values_through_blocks", carries_many_values_through_blocks),
    ("hands_components_to_components", hands_components_to_components),
    ("takes_components_out_of_instances", takes_components_out_of_instances),
    ("initialises_a_global_with_a_million_operators", initialises_a_global),
    ("lists_a_hundred_thousand_elements", || lists_elements(100_000, 1)),
    ("lists_elements_for_fourteen_instances", || lists_elements(300_000, 14)),
    ("keeps_a_hundred_thousand_element_expressions", || passive_elements(100_000)),
    ("has_thirty_megabytes_of_data", has_data),
    ("compares_equal_types", || compares_types(16, 30)),
    ("compares_equal_types_very_often", || compares_types(17, 900)),
    ("slow_to_compile", slow_to_compile),
];

/// Files of their own, which no host should have to decode, each with words of the reason why they are refused.
pub const UNDECODABLE: &[(&str, Addition, &str)] = &[
    ("imports_a_function_type", || imported_type("(func)"), "could not be examined"),
    ("imports_an_instance_type", || imported_type("(instance)"), ""),
    ("imports_a_component_type", || imported_type("(component)"), ""),
    ("imports_a_resource", || binary(r#"(component (import "t" (type (sub resource))))"#), ""),
    ("imports_a_value_type", || imported_type("(list u8)"), ""),
    ("exports_a_function_type", || binary(r#"(component (type $f (func)) (export "t" (type $f)))"#), ""),
    ("aliases_types_in_a_circle_of_packages", aliases_in_a_circle, ""),
];

/// Those that are loaded, and fail whenever an instance is made of them.
pub const NEVER_START: &[(&str, Addition)] =
    &[("loops_in_core_start", loops_in_core_start), ("calls_itself", calls_itself)];

/// A plugin as it should be with something added.
#[must_use]
pub fn bomb(addition: Addition) -> PluginSource {
    PluginSource::Bytes(bomb_file(addition))
}

/// The file of one.
#[must_use]
pub fn bomb_file(addition: Addition) -> Vec<u8> {
    let mut bytes = component("remembers").to_vec();
    bytes.extend(addition());
    bytes
}

fn imported_type(kind: &str) -> Vec<u8> {
    binary(&format!(r#"(component (type $t {kind}) (import "t" (type (eq $t))))"#))
}

/// The interface `d` of a package uses a type that goes through two other packages and comes from another interface of the first.
fn aliases_in_a_circle() -> Vec<u8> {
    let used = |package: &str, interface: &str, from: &str| {
        format!(
            r#"(alias export ${from} "t" (type $of-{from}))
            (import "{package}:{package}/{interface}" (instance ${interface} (export "t" (type (eq $of-{from})))))"#
        )
    };
    binary(&format!(
        r#"(component (import "p:p/a" (instance $a (export "t" (type (sub resource))))) {} {} {})"#,
        used("q", "b", "a"),
        used("r", "c", "b"),
        used("p", "d", "c")
    ))
}

/// A table's elements, which are put at a place that is known when an instance is made; the module is instantiated `instances` times.
fn lists_elements(count: usize, instances: usize) -> Vec<u8> {
    let module = format!(
        r#"(core module $m (import "g" "o" (global i32)) (table 10000 funcref) (func) (elem (global.get 0) func {}))"#,
        "0 ".repeat(count)
    );
    let given = r#"(core module $g (global (export "o") i32 (i32.const 0))) (core instance $g (instantiate $g))"#;
    let used = r#"(core instance (instantiate $m (with "g" (instance $g))))"#.repeat(instances);
    section(COMPONENT, &binary(&format!("(component {given} {module} {used})")))
}

fn lists_element_expressions() -> Vec<u8> {
    const COUNT: usize = 10_000_000;
    let mut elements = vec![1, 4, 0x23, 0, 0x0b];
    elements.extend(leb128(COUNT));
    elements.extend([0xd2, 0, 0x0b].repeat(COUNT));
    core_module(&[
        (1, &[1, 0x60, 0, 0]),
        (2, b"\x01\x01g\x01o\x03\x7f\0"),
        (3, &[1, 0]),
        (4, &[1, 0x70, 0, 10]),
        (9, &elements),
        (10, &[1, 2, 0, 0x0b]),
    ])
}

/// Elements for no table yet, which cost nothing to compile and something to load.
fn passive_elements(count: usize) -> Vec<u8> {
    let mut elements = vec![1, 5, 0x70];
    elements.extend(leb128(count));
    elements.extend([0xd2, 0, 0x0b].repeat(count));
    core_module(&[(1, &[1, 0x60, 0, 0]), (3, &[1, 0]), (9, &elements), (10, &[1, 2, 0, 0x0b])])
}

fn has_data() -> Vec<u8> {
    const BYTES: usize = 30 << 20;
    let mut data = vec![1, 1];
    data.extend(leb128(BYTES));
    data.resize(data.len() + BYTES, 1);
    core_module(&[(5, &[1, 0, 1]), (11, &data)])
}

fn initialises_a_global() -> Vec<u8> {
    let mut globals = vec![1, 0x7f, 0, 0x41, 0];
    globals.extend([0x41, 1, 0x6a].repeat(1_000_000));
    globals.push(0x0b);
    core_module(&[(6, &globals)])
}

/// A function is handed to components whose import has an equal type, made of other types: both trees are compared completely,
/// `times` times.
fn compares_types(depth: usize, times: usize) -> Vec<u8> {
    let tree: String = (1..=depth).map(|level| format!("(type $t{level} (tuple $t{0} $t{0}))", level - 1)).collect();
    let tree = format!("(type $t0 (tuple u8 u8)) {tree}");
    let taken = format!(r#"(component $c {tree} (import "f" (func (param "x" $t{depth}))))"#);
    let compared = r#"(instance (instantiate $c (with "f" (func $g))))"#.repeat(times);
    let given = format!(r#"{tree} (import "g" (func $g (param "x" $t{depth})))"#);
    section(COMPONENT, &binary(&format!("(component {given} {taken} {compared})")))
}

/// A module of these sections that is compiled and never used.
fn core_module(sections: &[CoreSection<'_>]) -> Vec<u8> {
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    for (kind, content) in sections {
        module.extend(section(*kind, content));
    }
    section(CORE_MODULE, &module)
}

/// One that takes some seconds to compile.
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
fn has_a_large_function() -> Vec<u8> {
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

/// This many variables, each of which one branch sets or does not, and all of which are used in the end.
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
