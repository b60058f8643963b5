//! Is a component, but no plugin.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

test_guests::bindings! {
    inline: "
        package other:thing@1.0.0;
        interface numbers { next: func(number: u32) -> u32; }
        world thing { export numbers; }
    ",
}

struct Thing;

impl bindings::exports::other::thing::numbers::Guest for Thing {
    fn next(number: u32) -> u32 {
        number.wrapping_add(1)
    }
}

bindings::export!(Thing with_types_in bindings);
test_guests::panic_in_silence!();
