//! Schemas and their versions: compiled before they are stored, and again before they become active.

use super::{AdminError, AdminService, Amend, Now, What, check_tag, name_of, page, tag_of};
use crate::{
    api::{
        pages::{Page, PageRequest},
        schemas::{NewSchema, SchemaVersionView, SchemaView},
        tags::Tagged,
    },
    control::{
        registry::{
            documents::{SchemaDocument, SchemaVersion},
            snapshot::Snapshot,
        },
        schema_compiler,
    },
    limits::{CHANGE_ATTEMPTS_MAX, REGISTRY_DOCUMENT_BYTES_MAX, SCHEMA_VERSIONS_MAX, SCHEMAS_PAGE_BYTES},
    rt::clock,
    schema::{SchemaSource, SchemaType},
    station::Name,
};

impl AdminService {
    /// Returns the schemas, by name.
    pub async fn schemas(&self, ask: &PageRequest) -> Result<Page<SchemaView>, AdminError> {
        let snapshot = self.snapshot().await?;
        let all = page(snapshot.schemas.iter().map(|(name, entry)| (name.to_string(), (name, &*entry.document))), ask);
        let part = bounded(all, |(name, document)| (name.to_string(), bytes_of(document)));
        let items = part.items.into_iter().map(|(name, document)| view(&snapshot, name, document)).collect();
        Ok(Page { items, next: part.next })
    }

    /// Returns one schema with all versions.
    pub async fn schema(&self, name: &str) -> Result<Tagged<SchemaView>, AdminError> {
        let name = name_of::<SchemaDocument>(name)?;
        shown(&*self.snapshot().await?, &name)
    }

    /// Compiles and adds a schema, or the next version of the one of this name. The first version is active, others are
    /// not yet. Returns the schema and the version that was added.
    pub async fn add_schema(&self, new: NewSchema, created_by: &str) -> Result<(Tagged<SchemaView>, u32), AdminError> {
        let name = name_of::<SchemaDocument>(&new.name)?;
        let NewSchema { kind, schema: text, message, imports, .. } = new;
        let kind = kind.into();
        let source = SchemaSource { kind, text, message, imports };
        let bytes = source.text.len() + source.imports.values().map(String::len).sum::<usize>();
        if bytes > REGISTRY_DOCUMENT_BYTES_MAX {
            let text = format!("the schema has {bytes} bytes; it may have {REGISTRY_DOCUMENT_BYTES_MAX}");
            return Err(AdminError::Invalid(text));
        }
        // A schema that is refused anyway is not compiled.
        let version = SchemaVersion {
            version: 1,
            text: source.text.clone(),
            message: source.message.clone(),
            imports: source.imports.clone(),
            created_by: created_by.to_owned(),
            created_ms: clock::unix_ms(),
        };
        next_document(&name, self.snapshot().await?.schemas.get(&name).map(|entry| &*entry.document), kind, &version)?;
        schema_compiler::compile(source, 1).await.map_err(AdminError::Invalid)?;
        let added = |now: Now<'_, SchemaDocument>| match now.document() {
            None if now.stored > 0 => Err(unreadable(&name)),
            known => next_document(&name, known, kind, &version).map(Amend::Put),
        };
        let snapshot = self.amend(|snapshot| &snapshot.schemas, &name, CHANGE_ATTEMPTS_MAX, added).await?;
        let document = &snapshot.schemas.get(&name).ok_or(AdminError::Unknown(What::Schema))?.document;
        let mine = document.versions.iter().rev().find(|known| {
            known.says_the_same(&version)
                && (&known.created_by, known.created_ms) == (&version.created_by, version.created_ms)
        });
        let number = mine.map_or(document.active, |mine| mine.version);
        tracing::info!(schema = %name, version = number, by = created_by, "added schema");
        Ok((shown(&snapshot, &name)?, number))
    }

    /// Makes a version active, everywhere: also an older one (the original's "roll back").
    pub async fn activate_schema(
        &self,
        name: &str,
        version: u32,
        expected: Option<&str>,
    ) -> Result<Tagged<SchemaView>, AdminError> {
        let name = name_of::<SchemaDocument>(name)?;
        let snapshot = self.snapshot().await?;
        let entry = snapshot.schemas.get(&name).ok_or(AdminError::Unknown(What::Schema))?;
        let source = entry.document.source(version).ok_or(AdminError::Unknown(What::SchemaVersion))?;
        // It compiled where it was added, which may have been another version of the program.
        schema_compiler::compile(source, 1).await.map_err(AdminError::Invalid)?;
        let activated = |now: Now<'_, SchemaDocument>| {
            let old = now.document().ok_or(AdminError::Unknown(What::Schema))?;
            check_tag(expected, &view(now.snapshot, &name, old))?;
            old.version(version).ok_or(AdminError::Unknown(What::SchemaVersion))?;
            if old.active == version && now.is_whole() {
                return Ok(Amend::Keep);
            }
            Ok(Amend::Put(SchemaDocument { active: version, ..old.clone() }))
        };
        let snapshot = self.amend(|snapshot| &snapshot.schemas, &name, CHANGE_ATTEMPTS_MAX, activated).await?;
        self.compiled(&name).await;
        tracing::info!(schema = %name, version, "activated schema");
        shown(&snapshot, &name)
    }

    /// Removes a schema that no station is attached to.
    pub async fn remove_schema(&self, name: &str, expected: Option<&str>) -> Result<(), AdminError> {
        let name = name_of::<SchemaDocument>(name)?;
        let removed = |now: Now<'_, SchemaDocument>| {
            if now.stored == 0 {
                return Err(AdminError::Unknown(What::Schema));
            }
            if let Some(document) = now.document() {
                check_tag(expected, &view(now.snapshot, &name, document))?;
            }
            check_detached(now.snapshot, &name).map(|()| Amend::Delete)
        };
        let known = self.snapshot().await?.schemas.get(&name).map(|entry| entry.document.clone());
        let snapshot = self.amend(|snapshot| &snapshot.schemas, &name, CHANGE_ATTEMPTS_MAX, removed).await?;
        // Somebody attached it at the same time. One of the two gives way, and a schema in use stays.
        if let (Err(refused), Some(known)) = (check_detached(&snapshot, &name), known) {
            let restored = |now: Now<'_, SchemaDocument>| match now.stored {
                0 => Ok(Amend::Put(SchemaDocument::clone(&known))),
                _ => Ok(Amend::Keep),
            };
            self.amend(|snapshot| &snapshot.schemas, &name, CHANGE_ATTEMPTS_MAX, restored).await?;
            return Err(refused);
        }
        tracing::info!(schema = %name, "removed schema");
        Ok(())
    }
}

/// Cuts a page where it would become too large for an answer: the element that crosses the bound is its last. `of`
/// returns an element's key and bytes.
fn bounded<T>(page: Page<T>, of: impl Fn(&T) -> (String, usize)) -> Page<T> {
    let Page { mut items, mut next } = page;
    let mut bytes = 0;
    for at in 0..items.len() {
        let Some((key, more)) = items.get(at).map(&of) else { break };
        bytes += more;
        if bytes >= SCHEMAS_PAGE_BYTES && at + 1 < items.len() {
            items.truncate(at + 1);
            next = Some(key);
            break;
        }
    }
    Page { items, next }
}

/// Returns the bytes of a schema's texts.
fn bytes_of(document: &SchemaDocument) -> usize {
    let version =
        |version: &SchemaVersion| version.text.len() + version.imports.values().map(String::len).sum::<usize>();
    document.versions.iter().map(version).sum()
}

/// Returns the document with one more version, which is numbered here.
fn next_document(
    name: &Name,
    known: Option<&SchemaDocument>,
    kind: SchemaType,
    version: &SchemaVersion,
) -> Result<SchemaDocument, AdminError> {
    let Some(known) = known else { return Ok(SchemaDocument::new(kind, version.clone())) };
    if known.kind != kind {
        let text = format!("schema {name} already exists with type {}", known.kind.word());
        return Err(AdminError::Invalid(text));
    }
    if known.newest().is_some_and(|newest| newest.says_the_same(version)) {
        return Err(AdminError::Conflict(format!("schema {name} already exists with the same content")));
    }
    if known.versions.len() >= SCHEMA_VERSIONS_MAX {
        let text =
            format!("schema {name} has {SCHEMA_VERSIONS_MAX} versions, which is the most: add it under another name");
        return Err(AdminError::Conflict(text));
    }
    let mut document = known.clone();
    let number = known.newest().map_or(0, |newest| newest.version) + 1;
    document.versions.push(SchemaVersion { version: number, ..version.clone() });
    Ok(document)
}

/// The document there belongs to a schema that this gateway does not understand; nothing is written over it.
fn unreadable(name: &Name) -> AdminError {
    AdminError::Conflict(format!("what the registry has under the name {name} cannot be read here: remove it first"))
}

fn check_detached(snapshot: &Snapshot, name: &Name) -> Result<(), AdminError> {
    let stations = snapshot.attached_to(name);
    if stations.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = stations.iter().take(10).map(Name::as_str).collect();
    let more = if stations.len() > names.len() { ", …" } else { "" };
    Err(AdminError::Conflict(format!("schema {name} is attached to {}{more}: detach it there first", names.join(", "))))
}

fn shown(snapshot: &Snapshot, name: &Name) -> Result<Tagged<SchemaView>, AdminError> {
    let entry = snapshot.schemas.get(name).ok_or(AdminError::Unknown(What::Schema))?;
    let value = view(snapshot, name, &entry.document);
    Ok(Tagged { tag: tag_of(&value), value })
}

fn view(snapshot: &Snapshot, name: &Name, document: &SchemaDocument) -> SchemaView {
    let version = |version: &SchemaVersion| SchemaVersionView {
        version: version.version,
        schema: version.text.clone(),
        message: version.message.clone(),
        imports: version.imports.clone(),
        created_by: version.created_by.clone(),
        created_ms: version.created_ms,
    };
    SchemaView {
        name: name.to_string(),
        kind: document.kind.into(),
        active_version: document.active,
        versions: document.versions.iter().map(version).collect(),
        stations: snapshot.attached_to(name).iter().map(Name::to_string).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_large_schemas_is_short_and_the_next_begins_behind_it() {
        let sizes = |sizes: &[usize]| -> Vec<(String, usize)> {
            sizes.iter().enumerate().map(|(at, size)| (format!("s{at}"), *size)).collect()
        };
        let cut = |items: Vec<(String, usize)>, next: Option<&str>| {
            let page = bounded(Page { items, next: next.map(str::to_owned) }, Clone::clone);
            (page.items.len(), page.next)
        };
        let half = SCHEMAS_PAGE_BYTES / 2;
        assert_eq!(cut(sizes(&[]), None), (0, None));
        assert_eq!(cut(sizes(&[1, 1, 1]), Some("s2")), (3, Some("s2".to_owned())));
        assert_eq!(cut(sizes(&[half, half, 1, 1]), Some("s3")), (2, Some("s1".to_owned())));
        assert_eq!(cut(sizes(&[half, half]), None), (2, None), "nothing is behind the last");
        assert_eq!(cut(sizes(&[SCHEMAS_PAGE_BYTES * 9, 1]), None), (1, Some("s0".to_owned())), "there is progress");
    }
}
