//! Small guests, written by hand: a body for all operations, and what is around it made here.

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// Where a guest keeps what it says; requests come to lie from [`REQUEST`] on.
const TEXTS: &str = r#"
    (data (i32.const 0xf000) "c2c_image\00\00\00\00\f0\00\00\09\00\00\00")
    (data (i32.const 0xf030) "staged")
"#;

/// The name of the group that [`ANSWERS`] stages before it answers.
pub const STAGED: &str = "staged";

/// The conversation whose custom data is the image of what [`ANSWERS`] answers, in hex.
pub const IMAGE: &str = "c2c_image";

/// The operations and how their parameters are passed.
const OPERATIONS: [(&str, &str); 10] = [
    ("create-conversation-group", "i32 i32 i32 i32"),
    ("get-conversation-group-list", ""),
    ("delete-conversation-group", "i32 i32"),
    ("rename-conversation-group", "i32 i32 i32 i32"),
    ("add-conversations-to-group", "i32 i32 i32 i32"),
    ("delete-conversations-from-group", "i32 i32 i32 i32"),
    ("mark-conversation", "i64 i32 i32 i32"),
    ("set-conversation-custom-data", "i32 i32 i32 i32"),
    ("get-conversation-list-by-filter", "i32 i32 i32 i32 i32 i32 i64 i64 i32"),
    ("search-conversations", "i32 i32"),
];

/// Stages a group; then takes the custom data of [`IMAGE`], hex, for what its memory is to have from 0 on, and the first
/// four bytes of that for where its answer is.
pub const ANSWERS: &str = r"
    (local $entry i32) (local $from i32) (local $end i32) (local $to i32)
    (call $create-group (i32.const 0xf030) (i32.const 6) (i32.const 0) (i32.const 0) (i32.const 0xf040))
    (call $get-data (i32.const 0xf00c) (i32.const 1) (i32.const 0xf020))
    (local.set $entry (i32.load (i32.const 0xf020)))
    (local.set $from (i32.load offset=16 (local.get $entry)))
    (local.set $end (i32.add (local.get $from) (i32.load offset=20 (local.get $entry))))
    (block $done
        (loop $next
            (br_if $done (i32.ge_u (local.get $from) (local.get $end)))
            (i32.store8 (local.get $to)
                (i32.or
                    (i32.shl (call $digit (i32.load8_u (local.get $from))) (i32.const 4))
                    (call $digit (i32.load8_u offset=1 (local.get $from)))))
            (local.set $from (i32.add (local.get $from) (i32.const 2)))
            (local.set $to (i32.add (local.get $to) (i32.const 1)))
            (br $next)))
    (i32.load (i32.const 0))
";

/// Never comes to an end.
pub const LOOPS: &str = "(loop $again (br $again)) (unreachable)";

/// Calls itself again and again.
pub const RECURSES: &str = "(call $answer)";

/// Takes all memory that it gets.
pub const GROWS: &str = r"
    (loop $again (br_if $again (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
    (i32.store (memory.size) (i32.const 1))
    (i32.const 0)
";

/// A plugin that answers all operations with this body, whose result is where the answer is.
///
/// # Panics
///
/// When the body is none.
#[must_use]
pub fn plugin(body: &str) -> Vec<u8> {
    let operations = OPERATIONS.map(|(name, parameters)| {
        format!(
            "(func (export \"im:conversation-groups/operations@0.1.0#{name}\") (param {parameters}) (result i32) \
             (call $answer))\n"
        )
    });
    let text = format!(
        r#"(module
            (import "im:conversation-groups/annotation-store@0.1.0" "get-annotations"
                (func $get-data (param i32 i32 i32)))
            (import "im:conversation-groups/group-store@0.1.0" "create-group"
                (func $create-group (param i32 i32 i32 i32 i32)))
            (memory (export "memory") 4)
            (global $free (mut i32) (i32.const 0x10000))
            (func (export "cabi_realloc") (param i32 i32) (param $align i32) (param $size i32) (result i32)
                (local $start i32)
                (local.set $start
                    (i32.and
                        (i32.add (global.get $free) (i32.sub (local.get $align) (i32.const 1)))
                        (i32.sub (i32.const 0) (local.get $align))))
                (global.set $free (i32.add (local.get $start) (local.get $size)))
                (local.get $start))
            (func $digit (param $character i32) (result i32)
                (i32.sub
                    (local.get $character)
                    (select (i32.const 48) (i32.const 87) (i32.lt_u (local.get $character) (i32.const 58)))))
            {TEXTS}
            (func $answer (result i32) {body})
            {}
        )"#,
        operations.concat()
    );
    let mut module = wat::parse_str(text).expect("the text is a module");
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../wit")).expect("the contract is there");
    let world = resolve.select_world(&[package], Some("plugin")).expect("the contract has a world");
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
        .expect("the contract has a binary form");
    let encoder = ComponentEncoder::default().validate(true).module(&module);
    encoder.and_then(|mut encoder| encoder.encode()).expect("the module becomes a component")
}
