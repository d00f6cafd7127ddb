//! Which resources are served, and under which group and version.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::builtin::kinds::{BuiltIn, KINDS, Sub};
use crate::builtin::shape::{Object, definition};
use crate::crd::{CustomKind, Version, sort_versions};
use crate::error::About;

/// A resource at one version.
#[derive(Debug)]
pub struct Resource {
    pub group: String,
    pub version: String,
    pub plural: String,
    pub singular: String,
    pub kind: String,
    pub list_kind: String,
    pub namespaced: bool,
    pub short_names: Vec<String>,
    pub categories: Vec<String>,
    /// The name of its collection in the store; all versions share it.
    pub storage: Arc<str>,
    pub backing: Backing,
}

/// Where a resource comes from.
#[derive(Debug)]
pub enum Backing {
    BuiltIn(&'static BuiltIn, &'static Object),
    /// A definition and the index of the version.
    Custom(Arc<CustomKind>, usize),
}

impl Resource {
    /// `v1` or `group/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// How errors name it.
    pub fn about(&self) -> About<'_> {
        About {
            group: &self.group,
            resource: &self.plural,
            kind: &self.kind,
        }
    }

    /// The built-in kind, if it is one.
    pub fn built_in(&self) -> Option<&'static BuiltIn> {
        match &self.backing {
            Backing::BuiltIn(kind, _) => Some(kind),
            Backing::Custom(..) => None,
        }
    }

    /// The custom kind and version, if it is one.
    pub fn custom(&self) -> Option<(&Arc<CustomKind>, &Version)> {
        match &self.backing {
            Backing::BuiltIn(..) => None,
            Backing::Custom(kind, index) => Some((kind, &kind.versions[*index])),
        }
    }

    /// Whether it is this built-in resource.
    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.group == group && self.plural == plural
    }

    /// Whether writes of the main endpoint leave the status alone.
    pub fn has_status(&self) -> bool {
        match &self.backing {
            Backing::BuiltIn(kind, _) => kind.status,
            Backing::Custom(kind, index) => kind.versions[*index].status,
        }
    }

    /// Whether there is a `scale` subresource.
    pub fn has_scale(&self) -> bool {
        match &self.backing {
            Backing::BuiltIn(kind, _) => kind.subresources.iter().any(|sub| sub.name == "scale"),
            Backing::Custom(kind, index) => kind.versions[*index].scale.is_some(),
        }
    }

    /// Subresources of built-in kinds beyond `status`.
    pub fn subresources(&self) -> &'static [Sub] {
        self.built_in().map_or(&[], |kind| kind.subresources)
    }

    /// Whether requests may be made to this subresource.
    pub fn serves(&self, subresource: &str) -> bool {
        match subresource {
            "" => true,
            "status" => self.has_status(),
            "scale" => self.has_scale(),
            other => self.subresources().iter().any(|sub| sub.name == other),
        }
    }

    /// The verbs of the main endpoint.
    pub fn verbs(&self) -> &'static [&'static str] {
        match self.built_in() {
            Some(kind) if kind.virtual_kind => &["create"],
            Some(kind) if kind.is("", "namespaces") => &[
                "create", "delete", "get", "list", "patch", "update", "watch",
            ],
            _ => &[
                "create",
                "delete",
                "deletecollection",
                "get",
                "list",
                "patch",
                "update",
                "watch",
            ],
        }
    }

    /// Whether the stored bytes are what a client of this version receives.
    pub fn is_stored_form(&self, revision: u64) -> bool {
        match &self.backing {
            Backing::BuiltIn(kind, _) => kind.storage.is_empty(),
            // Objects older than their definition may lack its defaults (K-174).
            Backing::Custom(kind, _) => {
                kind.storage_version == self.version && revision > kind.revision
            }
        }
    }

    fn from_built_in(kind: &'static BuiltIn) -> Option<Self> {
        Some(Self {
            group: kind.group.into(),
            version: kind.version.into(),
            plural: kind.plural.into(),
            singular: kind.kind.to_lowercase(),
            kind: kind.kind.into(),
            list_kind: format!("{}List", kind.kind),
            namespaced: kind.namespaced,
            short_names: kind.short_names.iter().map(|&name| name.into()).collect(),
            categories: kind.categories.iter().map(|&name| name.into()).collect(),
            storage: kind.storage_name().into(),
            backing: Backing::BuiltIn(kind, definition(&kind.definition())?),
        })
    }

    fn from_custom(kind: &Arc<CustomKind>, index: usize, storage: &Arc<str>) -> Self {
        Self {
            group: kind.group.clone(),
            version: kind.versions[index].name.clone(),
            plural: kind.plural.clone(),
            singular: kind.singular.clone(),
            kind: kind.kind.clone(),
            list_kind: kind.list_kind.clone(),
            namespaced: kind.namespaced,
            short_names: kind.short_names.clone(),
            categories: kind.categories.clone(),
            storage: Arc::clone(storage),
            backing: Backing::Custom(Arc::clone(kind), index),
        }
    }
}

/// Group to its versions, preferred first, to their resources by plural.
pub type Groups = BTreeMap<String, Vec<(String, Vec<Arc<Resource>>)>>;

/// All served resources; replaced as a whole when a definition changes.
#[derive(Debug, Default)]
pub struct Registry {
    resources: HashMap<String, Arc<Resource>>,
    groups: Groups,
    custom: BTreeMap<String, Arc<CustomKind>>,
}

fn path(group: &str, version: &str, plural: &str) -> String {
    format!("{group}/{version}/{plural}")
}

impl Registry {
    /// The built-in kinds and the given custom ones.
    pub fn new(custom: BTreeMap<String, Arc<CustomKind>>) -> Self {
        let mut registry = Self {
            custom,
            ..Self::default()
        };
        for resource in KINDS.iter().filter_map(Resource::from_built_in) {
            registry.add(resource);
        }
        let kinds: Vec<_> = registry.custom.values().cloned().collect();
        for kind in &kinds {
            let storage: Arc<str> = kind.name.as_str().into();
            for index in (0..kind.versions.len()).filter(|index| kind.versions[*index].served) {
                registry.add(Resource::from_custom(kind, index, &storage));
            }
        }
        for versions in registry.groups.values_mut() {
            sort_versions(versions, |(name, _)| name);
            for (_, resources) in versions {
                resources.sort_by(|a, b| a.plural.cmp(&b.plural));
            }
        }
        registry
    }

    fn add(&mut self, resource: Resource) {
        let resource = Arc::new(resource);
        let key = path(&resource.group, &resource.version, &resource.plural);
        let versions = self.groups.entry(resource.group.clone()).or_default();
        match versions
            .iter_mut()
            .find(|(version, _)| *version == resource.version)
        {
            Some((_, list)) => list.push(Arc::clone(&resource)),
            None => versions.push((resource.version.clone(), vec![Arc::clone(&resource)])),
        }
        self.resources.insert(key, resource);
    }

    /// The resource at this version.
    pub fn get(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.resources.get(&path(group, version, plural))
    }

    /// All groups by name, the core one as "", with their versions in order of preference.
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// The definitions behind custom resources.
    pub fn custom(&self) -> &BTreeMap<String, Arc<CustomKind>> {
        &self.custom
    }

    /// Whether the group has built-in kinds (K-021).
    pub fn is_built_in_group(group: &str) -> bool {
        KINDS.iter().any(|kind| kind.group == group)
    }
}
