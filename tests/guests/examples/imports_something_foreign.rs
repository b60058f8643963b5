//! Is a plugin that also wants to read files, through an interface that no host of ours has.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

extern crate alloc;

test_guests::bindings! {
    inline: "
        package evil:thing@1.0.0;
        interface files { read: func(path: string) -> list<u8>; }
        world thief { import files; }
    ",
}

test_guests::plugin!(|_, ids| {
    let stolen = bindings::evil::thing::files::read("/etc/passwd");
    test_guests::answer(ids, &alloc::format!("{} bytes", stolen.len()))
});
