//! Imports have a direction: no files of a crate import each other in a circle, so that each can be read and
//! changed with what stands below it alone. A `mod.rs` and its own children are one thing in several files
//! and may.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};

/// The crates whose files are looked at.
const CRATES: [&str; 5] = ["core", "driver", "sim", "runtime-tokio", "runtime-smol"];

/// Where a module is in its crate: `["bridge", "tables"]`; the crate itself has no part.
type Module = Vec<String>;

/// Files of one crate by their modules, with what each imports.
type Imports = BTreeMap<Module, BTreeSet<Module>>;

/// The module of a file below `src`.
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

/// Collects the paths that a file names, but for those of its tests.
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
        // What a module shows of its children is its own affair.
        if !is_test(&item.attrs) {
            self.tree(&[], &item.tree);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.paths.push(path.segments.iter().map(|part| part.ident.to_string()).collect());
        visit::visit_path(self, path);
    }
}

/// The module that a path leads to, as far as there are files on its way.
fn resolve(from: &Module, path: &[String], files: &BTreeSet<Module>) -> Option<Module> {
    let mut at = match path.first()?.as_str() {
        "crate" => Module::new(),
        "self" => from.clone(),
        "super" => {
            let ups = path.iter().take_while(|part| *part == "super").count();
            from[..from.len().checked_sub(ups)?].to_vec()
        }
        // A child by its name alone.
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
        // A parent and its child, whichever of the two imports the other, are one thing.
        let to = to.filter(|to| !module.starts_with(to) && !to.starts_with(&module));
        imports.insert(module.clone(), to.collect());
    }
    imports
}

/// All that can be reached from a module.
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

/// The circles: sets of modules of which each can be reached from each.
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

/// The core's modules stand in its `lib.rs` from top to bottom; a module uses what stands below it.
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

/// Which paths of Consul a file writes, but for its tests.
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

/// Consul's paths are written in one place, where every part of a path is encoded. The tables that the
/// bridge keeps copies of have theirs beside it.
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
