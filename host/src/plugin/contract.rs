//! Whether a component fits the WIT contract, and if not, in what.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use wit_component::WitPrinter;
use wit_parser::decoding::{DecodedWasm, decode};
use wit_parser::{InterfaceId, PackageId, Resolve, SourceMap, WorldId, WorldItem};

use super::PluginError;
use crate::settings::Wasi;

/// The contract that this host speaks.
pub const CONTRACT: &str = "im:conversation-groups@0.1.0";
const NAMESPACE: &str = "im";
const PACKAGE: &str = "conversation-groups";
const EXPORTED: &str = "conversation-groups";

/// The files of the contract, as they stand in `wit/`.
pub(super) const WIT: [(&str, &str); 6] = [
    ("world.wit", include_str!("../../../wit/world.wit")),
    ("conversation-groups.wit", include_str!("../../../wit/conversation-groups.wit")),
    ("group-store.wit", include_str!("../../../wit/group-store.wit")),
    ("mark-store.wit", include_str!("../../../wit/mark-store.wit")),
    ("settings.wit", include_str!("../../../wit/settings.wit")),
    ("diagnostics.wit", include_str!("../../../wit/diagnostics.wit")),
];

static OURS: LazyLock<(Resolve, PackageId)> = LazyLock::new(|| {
    let mut sources = SourceMap::new();
    for (name, text) in WIT {
        sources.push(Path::new(name), text);
    }
    let group = sources.parse().map_err(|(_, error)| error).expect("the contract's files are compiled in and parse");
    let mut resolve = Resolve::default();
    let package = resolve.push_group(group).expect("the contract's files are compiled in and resolve");
    (resolve, package)
});

/// What a component says of itself, as far as it is told to people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Description {
    /// What it imports.
    pub(super) imports: Vec<String>,
    /// What it exports.
    pub(super) exports: Vec<String>,
    /// The contract that it was built for, if it is one of ours.
    pub(super) contract: Option<String>,
}

impl Description {
    /// Whether the component imports WASI.
    pub(super) fn needs_wasi(&self) -> bool {
        self.imports.iter().any(|name| is_inert_wasi(name))
    }

    /// Refuses imports that a plugin does not get.
    pub(super) fn check_imports(&self, wasi: Wasi) -> Result<(), PluginError> {
        let inert = wasi == Wasi::Inert && cfg!(feature = "wasi");
        let prefix = format!("{NAMESPACE}:{PACKAGE}/");
        let allowed = |name: &str| name.starts_with(&prefix) || (inert && is_inert_wasi(name));
        let imports: Vec<String> = self.imports.iter().filter(|name| !allowed(name)).cloned().collect();
        if imports.is_empty() {
            return Ok(());
        }
        let wasi_would_do = cfg!(feature = "wasi") && imports.iter().all(|name| is_inert_wasi(name));
        Err(PluginError::ForeignImports { imports, wasi_would_do })
    }
}

/// A component's types, decoded.
pub(super) struct Decoded {
    resolve: Resolve,
    world: WorldId,
}

/// Whether an item is imported or exported.
#[derive(Clone, Copy)]
enum Side {
    Import,
    Export,
}

impl Decoded {
    /// Decodes a component. The decoder panics, overflows its stack or takes hours for components that are made to do that.
    pub(super) fn of(bytes: &[u8]) -> Result<Self, PluginError> {
        let wrong = |reason: &str| Err(PluginError::NotAComponent(reason.to_owned()));
        match bytes.get(..8) {
            Some([0, b'a', b's', b'm', _, _, 1, 0]) => {}
            Some([0, b'a', b's', b'm', _, _, 0, 0]) => {
                return wrong("it is a core module; make it a component first (`wasm-tools component new`)");
            }
            Some([0x7f, b'E', b'L', b'F', ..]) => return wrong("it is compiled code, which cannot be checked"),
            _ => return wrong("it does not begin like one"),
        }
        match decode(bytes) {
            Ok(DecodedWasm::Component(resolve, world)) => Ok(Self { resolve, world }),
            Ok(DecodedWasm::WitPackage(..)) => wrong("it is a WIT package, without code"),
            Err(error) => wrong(&format!("{error:#}")),
        }
    }

    /// What the component says of itself.
    pub(super) fn description(&self) -> Description {
        Description { imports: self.names(Side::Import), exports: self.names(Side::Export), contract: self.contract() }
    }

    /// The contract that the component was built for, if it is one of ours.
    fn contract(&self) -> Option<String> {
        let interfaces = self.interfaces(Side::Export).chain(self.interfaces(Side::Import));
        let packages = interfaces.filter_map(|(id, _)| self.resolve.interfaces.get(id)?.package);
        packages
            .filter_map(|package| self.resolve.packages.get(package))
            .find(|package| package.name.namespace == NAMESPACE && package.name.name == PACKAGE)
            .map(|package| package.name.to_string())
    }

    /// Refuses a component that was built for another contract than this host's.
    pub(super) fn check_contract(&self) -> Result<(), PluginError> {
        let Some(contract) = self.contract() else { return Err(PluginError::NoExport(self.names(Side::Export))) };
        let difference = self.difference();
        if !difference.is_empty() {
            return Err(PluginError::OtherContract { plugin: contract, difference });
        }
        if contract != CONTRACT {
            let difference = "  none that this plugin would notice; build it again for this version".to_owned();
            return Err(PluginError::OtherContract { plugin: contract, difference });
        }
        Ok(())
    }

    /// What the plugin imports differently from how it is there, and what it should export and does not.
    fn difference(&self) -> String {
        let (our_resolve, our_package) = &*OURS;
        let our_interface = |name: &str| our_resolve.packages.get(*our_package)?.interfaces.get(name).copied();
        let mut text = String::new();

        for (id, name) in self.ours(Side::Import) {
            let theirs = items(&self.resolve, id);
            let ours = our_interface(&name).map(|id| items(our_resolve, id)).unwrap_or_default();
            compare(&mut text, &name, theirs.keys(), &theirs, &ours);
        }
        let exported = self.ours(Side::Export).find(|(_, name)| name == EXPORTED);
        let theirs = exported.map(|(id, _)| items(&self.resolve, id)).unwrap_or_default();
        let ours = our_interface(EXPORTED).map(|id| items(our_resolve, id)).unwrap_or_default();
        compare(&mut text, EXPORTED, ours.keys(), &theirs, &ours);
        text
    }

    /// The interfaces of our package, whatever its version, by their plain names.
    fn ours(&self, side: Side) -> impl Iterator<Item = (InterfaceId, String)> {
        let prefix = format!("{NAMESPACE}:{PACKAGE}/");
        self.interfaces(side).filter_map(move |(id, name)| {
            let name = name.strip_prefix(&prefix)?;
            Some((id, name.split('@').next().unwrap_or(name).to_owned()))
        })
    }

    fn interfaces(&self, side: Side) -> impl Iterator<Item = (InterfaceId, String)> {
        let items = self.items(side);
        items.filter_map(|(name, item)| match item {
            WorldItem::Interface { id, .. } => Some((*id, name)),
            WorldItem::Function(_) | WorldItem::Type { .. } => None,
        })
    }

    fn names(&self, side: Side) -> Vec<String> {
        self.items(side).map(|(name, _)| name).collect()
    }

    fn items(&self, side: Side) -> impl Iterator<Item = (String, &WorldItem)> {
        let world = self.resolve.worlds.get(self.world);
        let items = world.map(|world| match side {
            Side::Import => &world.imports,
            Side::Export => &world.exports,
        });
        let items = items.into_iter().flatten();
        items.map(|(key, item)| (self.resolve.name_world_key(key), item))
    }
}

/// Whether an interface is one of those that inert WASI has.
fn is_inert_wasi(name: &str) -> bool {
    const PACKAGES: [&str; 6] = ["cli", "clocks", "filesystem", "io", "random", "sockets"];
    let package = name.strip_prefix("wasi:").and_then(|name| name.split('/').next());
    package.is_some_and(|package| PACKAGES.contains(&package))
}

/// Adds the items in which two interfaces differ, of those that matter.
fn compare<'a>(
    text: &mut String,
    interface: &str,
    matter: impl Iterator<Item = &'a String>,
    theirs: &BTreeMap<String, String>,
    ours: &BTreeMap<String, String>,
) {
    let mut headed = false;
    for item in matter.filter(|item| theirs.get(*item) != ours.get(*item)) {
        if !headed {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {interface}:");
            headed = true;
        }
        for (sign, side) in [('-', theirs), ('+', ours)] {
            let definition = side.get(item).map_or("(not there)", String::as_str);
            let _ = writeln!(text, "    {sign} {item}: {definition}");
        }
    }
}

/// The functions and types of an interface, by name, each on one line.
fn items(resolve: &Resolve, id: InterfaceId) -> BTreeMap<String, String> {
    let mut printer = WitPrinter::default();
    printer.emit_docs(false);
    if printer.print_interface(resolve, id).is_err() {
        return BTreeMap::new();
    }
    let printed = printer.output.to_string();
    let mut items = BTreeMap::new();
    let mut item = String::new();
    // What `use` names is compared where it is defined.
    let skipped = |line: &str| line.is_empty() || line.starts_with("@since") || line.starts_with("use ");
    for line in printed.lines().map(str::trim).filter(|line| !skipped(line)) {
        if !item.is_empty() {
            item.push(' ');
        }
        item.push_str(line);
        let ends = line.ends_with('}') || (line.ends_with(';') && !item.contains('{'));
        if ends {
            let (name, definition) = named(item.trim_end_matches(';'));
            items.insert(name, definition);
            item.clear();
        }
    }
    items
}

/// Splits `name: func(…)` and `record name { … }` into the name and the rest.
fn named(item: &str) -> (String, String) {
    if let Some((name, function)) = item.split_once(": ").filter(|(name, _)| !name.contains(' ')) {
        return (name.to_owned(), function.to_owned());
    }
    let name = item.split_whitespace().nth(1).unwrap_or(item);
    (name.to_owned(), item.to_owned())
}
