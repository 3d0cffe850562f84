# SPDX-License-Identifier: BSD-2-Clause
"""One schema over all versions: reachable definitions, optional members, and branches of unions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import attrs

from tools.qapi.facts import BUILTINS, INTEGERS, Definition, Facts, Item, definition_of, element

#: The members of a type in one version, by wire name.
Flat = Mapping[str, Item]


class SchemaConflict(Exception):
    """Raised when the facts of two versions cannot be represented by one schema."""


@attrs.frozen
class MergedMember:
    """A member over all versions that have its owner.

    Attributes:
        name: the wire name.
        type: a type of the schema that accepts the values of every version.
        is_optional: whether the member is absent or optional in any version.
        versions: the versions in which the owner has the member.
        owner_versions: the versions that have the owner.
        item: the member as of the newest of these versions.
    """

    name: str
    type: str
    is_optional: bool
    versions: tuple[str, ...]
    owner_versions: tuple[str, ...]
    item: Item


class Schema:
    """One schema of the facts, the monitor's or the guest agent's, over all its versions.

    Attributes:
        versions: the versions, oldest first.
        newest: each reachable definition, as of the newest version that has it.
        predecessors: by struct: (version, definition) of what older versions have in its place: a struct with another
            name, or a command that lists its arguments itself.
    """

    def __init__(self, facts: Facts, schema: str) -> None:
        self.versions = facts.versions
        self._as_of = {version: facts.as_of(version, schema) for version in facts.versions}
        everything = {name: definition_of(record) for name, record in facts.schemas[schema].items()}
        reachable = self._reachable(everything)
        self.newest = {name: definition for name, definition in everything.items() if name in reachable}
        self._uses: dict[str, set[tuple[str, str]]] = {}
        for name, definition in self.newest.items():
            for role, used in definition.references():
                self._uses.setdefault(used, set()).add((role, name))
        self.predecessors = self._find_predecessors()

    @staticmethod
    def _reachable(definitions: Mapping[str, Definition]) -> set[str]:
        """Return the names of all commands and events, and of the types that they use."""
        waiting = [name for name, definition in definitions.items() if definition.kind in ("command", "event")]
        found: set[str] = set()
        while waiting:
            name = waiting.pop()
            if name in definitions and name not in found:
                found.add(name)
                waiting.extend(used for _, used in definitions[name].references())
        return found

    def _find_predecessors(self) -> dict[str, list[tuple[str, str]]]:
        found: dict[str, list[tuple[str, str]]] = {}
        waiting = [(name, version, name) for name in self.newest for version in self.versions_of(name)]
        seen = set(waiting)
        for newer, version, older in waiting:  # the loop extends the list
            new, old = self.newest.get(newer), self._as_of[version].get(older)
            if new is None or old is None:
                continue
            if newer != older and new.kind == old.kind == "struct":
                found.setdefault(newer, []).append((version, older))
            if new.data and new.data != old.data and not self.is_union(new.data):
                found.setdefault(new.data, []).append((version, older))
            pairs = [(new.returns, old.returns)]
            for news, olds in ((new.members, old.members), (new.variants, old.variants)):
                pairs += [(item.type, olds[name].type) for name, item in news.items() if name in olds]
            for type_now, type_then in pairs:
                step = (element(type_now), version, element(type_then))
                if step[0] != step[2] and step not in seen:
                    seen.add(step)
                    waiting.append(step)
        return found

    def names(self, *kinds: str) -> list[str]:
        """Return the names of all definitions of some kinds, in order."""
        return [name for name, definition in self.newest.items() if definition.kind in kinds]

    def versions_of(self, name: str) -> tuple[str, ...]:
        """Return the versions that have a definition."""
        return tuple(version for version in self.versions if name in self._as_of[version])

    def item_versions(self, name: str, item: str) -> tuple[str, ...]:
        """Return the versions in which a definition has a value, or a branch."""
        found = []
        for version in self.versions_of(name):
            definition = self._as_of[version][name]
            if item in definition.values or item in definition.variants:
                found.append(version)
        return tuple(found)

    def is_union(self, name: str) -> bool:
        """Whether a definition is a union in its newest version."""
        return name in self.newest and self.newest[name].kind == "union"

    def tags_by_branch(self, union: str) -> dict[str, list[str]]:
        """Return the tag values of a union, by the type of their branch."""
        found: dict[str, list[str]] = {}
        for tag, variant in self.newest[union].variants.items():
            found.setdefault(variant.type, []).append(tag)
        return found

    def union_of(self, name: str) -> str:
        """Return the union that a struct belongs to; empty if the struct has other uses.

        A struct belongs to a union if it is used only as its branch, or as a base of such structs.
        """
        if self.newest[name].kind != "struct":
            return ""
        unions = set()
        for role, user in self._uses.get(name, ()):
            if role == "variants":
                unions.add(user)
            elif role == "base":
                unions.add(self.union_of(user))
            else:
                return ""
        return unions.pop() if len(unions) == 1 else ""

    def is_base(self, name: str) -> bool:
        """Whether other definitions inherit from this one."""
        return any(role == "base" for role, _ in self._uses.get(name, ()))

    def _flat(self, version: str, name: str) -> dict[str, Item]:
        """Return the members of a definition in a version, inherited ones first."""
        definition = self._as_of[version][name]
        members: dict[str, Item] = {}
        for base in (definition.base, definition.data):
            if base:
                members.update(self._flat(version, base))
        members.update(definition.members)
        return members

    def _has_tag_value(self, version: str, union: str, tag: str) -> bool:
        """Whether the tag of a union may have a value in a version."""
        discriminator = self._flat(version, union).get(self.newest[union].tag)
        if discriminator is None:
            return False
        definition = self._as_of[version].get(discriminator.type)
        return definition is None or tag in definition.values

    def _branch_contexts(self, union: str, branch: str, tags: Iterable[str]) -> Iterator[tuple[str, Flat]]:
        """Yield (version, members) of a union's branch, for every version and tag value that allows the branch.

        In a version that has the tag value but not the branch, only the union's own members are present.
        """
        for version in self.versions_of(union):
            for tag in tags:
                common = self._flat(version, union)
                variant = self._as_of[version][union].variants.get(tag)
                if variant is not None:
                    yield version, {**common, **self._flat(version, variant.type)}
                elif self._has_tag_value(version, union, tag):
                    yield version, common
        if not tags:
            for version in self.versions_of(branch):
                if version in self.versions_of(union):
                    yield version, {**self._flat(version, union), **self._flat(version, branch)}

    def members(self, name: str) -> dict[str, MergedMember]:
        """Return all members of a struct, union, command or event, inherited ones included."""
        union = self.union_of(name)
        if union:
            return self.branch_members(union, name, self.tags_by_branch(union).get(name, []))
        contexts = [(version, self._flat(version, name)) for version in self.versions_of(name)]
        contexts += [(version, self._flat(version, older)) for version, older in self.predecessors.get(name, ())]
        return self._merge(name, sorted(contexts, key=lambda context: self.versions.index(context[0])))

    def branch_members(self, union: str, branch: str, tags: Sequence[str]) -> dict[str, MergedMember]:
        """Return all members of a union's branch, the union's own included.

        Args:
            union: the union.
            branch: the type of the branch.
            tags: the tag values of the branch; empty if it is only a base of branches.
        """
        return self._merge(branch, list(self._branch_contexts(union, branch, tags)))

    def _merge(self, owner: str, contexts: Sequence[tuple[str, Flat]]) -> dict[str, MergedMember]:
        names = {name: None for _, flat in reversed(contexts) for name in flat}
        merged = {}
        for name in names:
            found = [(version, flat[name]) for version, flat in contexts if name in flat]
            newest_version, newest = found[-1]
            for version, item in found:
                if not self._accepts(newest.type, newest_version, item.type, version):
                    raise SchemaConflict(
                        f"{owner}.{name}: {newest.type} does not accept {item.type} of version {version}"
                    )
            merged[name] = MergedMember(
                name=name,
                type=newest.type,
                is_optional=len(found) < len(contexts) or any(item.is_optional for _, item in found),
                versions=tuple(dict.fromkeys(version for version, _ in found)),
                owner_versions=tuple(dict.fromkeys(version for version, _ in contexts)),
                item=newest,
            )
        return merged

    def _accepts(self, newer: str, newer_version: str, older: str, older_version: str) -> bool:
        """Whether the newer type accepts every value of the older one; scalars are compared by JSON type only."""
        if newer == older:
            return True
        if newer.startswith("[") or older.startswith("["):
            both = newer.startswith("[") and older.startswith("[")
            return both and self._accepts(element(newer), newer_version, element(older), older_version)
        if newer in BUILTINS or older in BUILTINS:
            return self._builtin_accepts(newer, newer_version, older, older_version)
        new, old = self._as_of[newer_version][newer], self._as_of[older_version][older]
        if new.kind == "alternate":
            return self._alternative_accepts(new, newer_version, older, older_version)
        if new.kind != old.kind:
            return False
        if new.kind == "enum":
            return old.values.keys() <= self.newest[newer].values.keys()
        if new.kind != "struct":
            return False
        new_members, old_members = self.members(newer), self._flat(older_version, older)
        return old_members.keys() <= new_members.keys() and all(
            self._accepts(member.type, newer_version, old_members[name].type, older_version)
            if name in old_members
            else member.is_optional
            for name, member in new_members.items()
        )

    def _builtin_accepts(self, newer: str, newer_version: str, older: str, older_version: str) -> bool:
        if newer in INTEGERS and older in INTEGERS:
            return True
        new = self.newest.get(newer)
        if new is not None and new.kind == "alternate":
            return self._alternative_accepts(new, newer_version, older, older_version)
        # An enumeration accepts any string: unknown values are allowed.
        return new is not None and new.kind == "enum" and older == "str"

    def _alternative_accepts(self, new: Definition, newer_version: str, older: str, older_version: str) -> bool:
        return any(self._accepts(item.type, newer_version, older, older_version) for item in new.members.values())
