//! The rule about the direction of imports: the files of a crate do not import each other in a cycle.
//!
//! So each file can be read and changed with only the files that it imports. A `mod.rs` and its own children
//! count as one module in several files and may import each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};

/// The crates to check.
const CRATES: [&str; 5] = ["core", "driver", "sim", "runtime-tokio", "runtime-smol"];

/// The path of a module in its crate: `["bridge", "tables"]`. The path of the crate itself is empty.
type Module = Vec<String>;

/// The files of one crate by module, with the imports of each.
type Imports = BTreeMap<Module, BTreeSet<Module>>;

/// Returns the module of a file below `src`.
fn module_of(file: &Path) -> Module {
    let parts = file.with_extension("");
    let parts = parts.components().map(|part| part.as_os_str().to_string_lossy().into_owned());
    let mut parts: Module = parts.collect();
    if matches!(parts.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        parts.pop();
    }
    parts
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files_below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Collects the paths in a file, except those in its tests.
struct Named {
    paths: Vec<Vec<String>>,
}

impl Named {
    fn tree(&mut self, before: &[String], tree: &syn::UseTree) {
        let with = |ident: &syn::Ident| [before, &[ident.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.tree(&with(&path.ident), &path.tree),
            syn::UseTree::Name(name) => self.paths.push(with(&name.ident)),
            syn::UseTree::Rename(name) => self.paths.push(with(&name.ident)),
            syn::UseTree::Glob(_) => self.paths.push(before.to_vec()),
            syn::UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.tree(before, tree));
            }
        }
    }
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else { return false };
        list.path.is_ident("cfg") && list.tokens.to_string() == "test"
    })
}

impl<'ast> Visit<'ast> for Named {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if !is_test(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        // Re-exports of children do not count.
        if !is_test(&item.attrs) {
            self.tree(&[], &item.tree);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.paths.push(path.segments.iter().map(|part| part.ident.to_string()).collect());
        visit::visit_path(self, path);
    }
}

/// Returns the module of a path, as far as its segments are files.
fn resolve(from: &Module, path: &[String], files: &BTreeSet<Module>) -> Option<Module> {
    let mut at = match path.first()?.as_str() {
        "crate" => Module::new(),
        "self" => from.clone(),
        "super" => {
            let ups = path.iter().take_while(|part| *part == "super").count();
            from[..from.len().checked_sub(ups)?].to_vec()
        }
        // The path names a child without a prefix.
        name if files.contains(&[&from[..], &[name.to_owned()]].concat()) => from.clone(),
        _ => return None,
    };
    let rest = path.iter().skip_while(|part| matches!(part.as_str(), "crate" | "self" | "super"));
    for part in rest {
        at.push(part.clone());
        if !files.contains(&at) {
            at.pop();
            break;
        }
    }
    Some(at)
}

fn imports_of(folder: &Path) -> Imports {
    let mut found = Vec::new();
    files_below(folder, &mut found);
    let is_test = |module: &Module| module.iter().any(|part| part == "tests");
    let modules = found.iter().map(|file| module_of(file.strip_prefix(folder).expect("below")));
    let files: BTreeSet<Module> = modules.filter(|module| !is_test(module)).collect();
    let mut imports = Imports::new();
    for file in &found {
        let module = module_of(file.strip_prefix(folder).expect("below"));
        if is_test(&module) {
            continue;
        }
        let source = fs::read_to_string(file).expect("a source");
        let source =
            syn::parse_file(&source).unwrap_or_else(|why| panic!("{}: {why}", file.display()));
        let mut named = Named { paths: Vec::new() };
        named.visit_file(&source);
        let to = named.paths.iter().filter_map(|path| resolve(&module, path, &files));
        // A parent and its child count as one module, so imports between them do not count.
        let to = to.filter(|to| !module.starts_with(to) && !to.starts_with(&module));
        imports.insert(module.clone(), to.collect());
    }
    imports
}

/// Returns the modules that can be reached from a module.
fn reach(imports: &Imports, from: &Module) -> BTreeSet<Module> {
    let mut seen = BTreeSet::new();
    let mut todo = vec![from.clone()];
    while let Some(module) = todo.pop() {
        for next in imports.get(&module).into_iter().flatten() {
            if seen.insert(next.clone()) {
                todo.push(next.clone());
            }
        }
    }
    seen
}

/// Returns the cycles: sets of modules of which each can be reached from each.
fn circles(imports: &Imports) -> Vec<BTreeSet<Module>> {
    let reached: BTreeMap<&Module, BTreeSet<Module>> =
        imports.keys().map(|module| (module, reach(imports, module))).collect();
    let mut found: Vec<BTreeSet<Module>> = Vec::new();
    for (module, to) in &reached {
        if to.contains(*module) && !found.iter().any(|circle| circle.contains(*module)) {
            let back = |other: &&Module| reached.get(*other).is_some_and(|r| r.contains(*module));
            found.push(to.iter().filter(back).cloned().collect());
        }
    }
    found
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace");
    let mut said = Vec::new();
    for name in CRATES {
        let imports = imports_of(&root.join(name).join("src"));
        assert!(!imports.is_empty(), "{name} has files");
        for circle in circles(&imports) {
            let arrows = circle.iter().flat_map(|from| {
                let inside = imports[from].iter().filter(|to| circle.contains(*to));
                inside.map(move |to| format!("  {} -> {}", from.join("::"), to.join("::")))
            });
            let arrows: Vec<String> = arrows.collect();
            said.push(format!("{name}: a circle of {} files\n{}", circle.len(), arrows.join("\n")));
        }
    }
    assert!(said.is_empty(), "{}", said.join("\n"));
}

/// The core's `lib.rs` lists the modules from top to bottom, and a module imports only modules below it.
#[test]
fn the_core_imports_downwards() {
    let core =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").join("core/src");
    let text = fs::read_to_string(core.join("lib.rs")).expect("the core");
    let order: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("pub mod ")).collect();
    let place = |module: &Module| {
        let top = module.first()?;
        order.iter().position(|name| name.trim_end_matches(';') == top)
    };
    let mut upwards = Vec::new();
    for (from, all) in &imports_of(&core) {
        for to in all {
            if let (Some(at), Some(used)) = (place(from), place(to))
                && used < at
            {
                upwards.push(format!("{} -> {}", from.join("::"), to.join("::")));
            }
        }
    }
    assert!(order.len() > 10 && upwards.is_empty(), "{}", upwards.join("\n"));
}

/// The paths of Consul in a file, except those in its tests.
#[derive(Default)]
struct ConsulPaths(Vec<String>);

impl<'ast> Visit<'ast> for ConsulPaths {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if !is_test(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_lit_str(&mut self, text: &'ast syn::LitStr) {
        let text = text.value();
        let api = ["kv", "txn", "catalog", "health", "agent", "session"];
        if text.strip_prefix("/v1/").is_some_and(|path| api.contains(&first_of(path))) {
            self.0.push(text);
        }
    }
}

fn first_of(path: &str) -> &str {
    path.split(['/', '?']).next().unwrap_or_default()
}

/// The paths of Consul are in one file, where every part of a path is encoded. The paths of the replicated
/// tables are in a file beside it.
#[test]
fn consuls_paths_are_written_in_one_place() {
    let core =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").join("core/src");
    let mut found = Vec::new();
    files_below(&core, &mut found);
    let mut said = BTreeMap::new();
    for file in found {
        let module = module_of(file.strip_prefix(&core).expect("below"));
        if module.last().is_some_and(|name| name == "tests") {
            continue;
        }
        let source = fs::read_to_string(&file).expect("a source");
        let mut paths = ConsulPaths::default();
        paths.visit_file(&syn::parse_file(&source).expect("Rust"));
        if !paths.0.is_empty() {
            said.insert(module.join("::"), paths.0);
        }
    }
    let expected = ["cluster::replica", "consul::url"];
    assert!(said.keys().eq(expected.iter()), "{said:#?}");
}

#[test]
fn a_circle_is_found() {
    let module = |name: &str| vec![name.to_owned()];
    let mut imports = Imports::new();
    for (from, to) in [("a", "b"), ("b", "c"), ("c", "a"), ("d", "a"), ("e", "e2")] {
        imports.entry(module(from)).or_default().insert(module(to));
    }
    let expected: BTreeSet<Module> = ["a", "b", "c"].map(module).into();
    assert_eq!(circles(&imports), [expected]);
}
