//! Whether a component fits the WIT contract, and if not, in what.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use wit_component::WitPrinter;
use wit_parser::decoding::{DecodedWasm, decode};
use wit_parser::{InterfaceId, PackageId, PackageName, Resolve, SourceMap, WorldId, WorldItem};

use super::PluginError;
use crate::settings::Wasi;

/// The contract that this host speaks.
pub const CONTRACT: &str = "im:conversation-groups@0.1.0";
const NAMESPACE: &str = "im";
const PACKAGE: &str = "conversation-groups";
const EXPORTED: &str = "operations";

/// The files of the contract, as they stand in `wit/`.
pub(super) const WIT: [(&str, &str); 7] = [
    ("world.wit", include_str!("../../../wit/world.wit")),
    ("types.wit", include_str!("../../../wit/types.wit")),
    ("operations.wit", include_str!("../../../wit/operations.wit")),
    ("group-store.wit", include_str!("../../../wit/group-store.wit")),
    ("annotation-store.wit", include_str!("../../../wit/annotation-store.wit")),
    ("limits.wit", include_str!("../../../wit/limits.wit")),
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
        Description {
            imports: self.names(Side::Import),
            exports: self.names(Side::Export),
            contract: self.package().map(ToString::to_string),
        }
    }

    /// The contract that the component was built for, if it is one of ours.
    fn package(&self) -> Option<&PackageName> {
        let interfaces = self.interfaces(Side::Export).chain(self.interfaces(Side::Import));
        let packages = interfaces.filter_map(|(id, _)| self.resolve.interfaces.get(id)?.package);
        packages
            .filter_map(|package| self.resolve.packages.get(package))
            .map(|package| &package.name)
            .find(|name| name.namespace == NAMESPACE && name.name == PACKAGE)
    }

    /// Refuses a component that was built for another contract than this host's, or for a later version of it.
    pub(super) fn check_contract(&self) -> Result<(), PluginError> {
        let (our_resolve, our_package) = &*OURS;
        let version = our_resolve.packages.get(*our_package).and_then(|package| package.name.version.as_ref());
        self.check_contract_version(version.map(|version| (version.major, version.minor, version.patch)))
    }

    /// Refuses a component that was built for another contract, if this host's has the version `ours`.
    fn check_contract_version(&self, ours: Option<Triple>) -> Result<(), PluginError> {
        let Some(package) = self.package() else { return Err(PluginError::NoExport(self.names(Side::Export))) };
        let plugin = package.to_string();
        let difference = self.difference();
        if !difference.is_empty() {
            return Err(PluginError::OtherContract { plugin, difference });
        }
        let theirs = package.version.as_ref();
        // No version before a release is compatible with another.
        let is_plain = theirs.is_none_or(|version| version.pre.is_empty());
        let theirs = theirs.map(|version| (version.major, version.minor, version.patch));
        if !(is_plain && is_served(theirs, ours)) {
            let difference =
                "  none that this plugin would notice, but hosts of this version load plugins for the same or an \
                              earlier compatible version only; build the plugin for this version"
                    .to_owned();
            return Err(PluginError::OtherContract { plugin, difference });
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

/// A version without what may follow its three numbers.
type Triple = (u64, u64, u64);

/// Whether a host with version `ours` of the contract runs plugins for version `theirs`: the same, or an earlier one that is
/// compatible by the rules of semantic versioning, as wasmtime's linker resolves it.
fn is_served(theirs: Option<Triple>, ours: Option<Triple>) -> bool {
    let (Some(theirs), Some(ours)) = (theirs, ours) else { return theirs == ours };
    let is_compatible = match ours {
        (0, 0, _) => theirs == ours,
        (0, minor, _) => (theirs.0, theirs.1) == (0, minor),
        (major, ..) => theirs.0 == major,
    };
    is_compatible && theirs <= ours
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_for_the_same_or_an_earlier_compatible_version_are_served() {
        for (theirs, ours, expected) in [
            ((0, 1, 0), (0, 1, 0), true),
            ((0, 1, 0), (0, 1, 2), true),
            ((0, 1, 3), (0, 1, 2), false),
            ((0, 1, 0), (0, 2, 0), false),
            ((0, 0, 1), (0, 0, 2), false),
            ((1, 0, 5), (1, 2, 0), true),
            ((1, 3, 0), (1, 2, 9), false),
            ((1, 0, 0), (2, 0, 0), false),
        ] {
            assert_eq!(is_served(Some(theirs), Some(ours)), expected, "{theirs:?} on {ours:?}");
        }
        assert!(!is_served(None, Some((0, 1, 0))));
    }
}

/// Plugins whose version of the contract is doctored.
#[cfg(all(test, feature = "bundled-plugin"))]
mod doctored {
    use std::sync::Arc;

    use super::*;
    use crate::api::CreateConversationGroup;
    use crate::model::UserId;
    use crate::plugin::BUNDLED;
    use crate::sandbox::{Operation, Sandbox, in_memory};
    use crate::settings::{Limits, SandboxSettings};
    use crate::store::{Bounds, MemoryStore, Transaction};

    /// The bundled plugin, as if it were built for version 0.1.1.
    fn of_another_version() -> Vec<u8> {
        let mut bytes = BUNDLED.to_vec();
        let (version, other) = (b"@0.1.0", b"@0.1.1");
        for position in 0..bytes.len() - version.len() {
            let here = &mut bytes[position..position + version.len()];
            if here == version {
                here.copy_from_slice(other);
            }
        }
        bytes
    }

    #[test]
    fn a_plugin_for_version_0_1_1_is_served_from_0_1_1_on() {
        let decoded = Decoded::of(&of_another_version()).expect("it is a component");
        for patch in [1, 2, 20] {
            decoded.check_contract_version(Some((0, 1, patch))).expect("it is compatible");
        }
        let error = decoded.check_contract().expect_err("this host is older").to_string();
        assert!(error.contains("im:conversation-groups@0.1.1") && error.contains("for this version"), "{error}");
    }

    #[test]
    fn a_plugin_runs_on_a_host_whose_contract_has_another_compatible_version() {
        let sandbox = Sandbox::new(SandboxSettings::default(), Wasi::Refuse, 1, None).expect("it can be set up");
        let bytes = of_another_version();
        let code = sandbox.compiler().compile(&bytes, 1).expect("it compiles");
        let plugin = sandbox.compiler().load(&in_memory(&code).expect("there is memory"), false).expect("it links");
        let user = UserId::new("alice").expect("valid");
        let transaction = Transaction::new(Arc::new(MemoryStore::new()), user, Bounds::default());
        let creation = CreateConversationGroup::new("Work", ["c2c_bob"]);
        creation.run(&sandbox, &plugin, transaction, &Arc::new(Limits::default())).expect("it runs");
    }
}
