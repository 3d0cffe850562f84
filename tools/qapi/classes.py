# SPDX-License-Identifier: BSD-2-Clause
"""Decide which classes are made of a schema: their names, bases, members and places.

Rules that are not plain:

* A struct that is nothing but a branch of one union IS that branch: a subclass of the union, its tag narrowed.
* A struct with another life stays outside; a tagged class, ``<Union><Tag>``, is the branch.
* A command whose arguments are the struct of its own name is that struct. One whose reply has its own name keeps it:
  the reply is called ``<Name>Reply``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs

from tools.qapi.facts import INTEGERS, Definition, element
from tools.qapi.model import MergedMember, Schema, SchemaConflict
from tools.qapi.naming import camel_case, event_class_name, member_name, module_name, ruled_wire_name

_SCALARS = {"str": "str", "bool": "bool", "number": "float", "any": "Any", "null": "Null"}

#: Kinds of definitions that become classes.
CLASS_KINDS = ("struct", "union", "event", "command")


@attrs.frozen
class Field:
    """One member as its class declares it.

    Attributes:
        name: the Python name.
        wire_name: the wire name where the rule does not give it, empty where it does.
        annotation: the type, without the None of an optional member.
        default: source text; empty where the member is required.
        member: what it is made of; None for a member that the schema does not have.
        narrowed_to: tag values, for the tag of a branch.
    """

    name: str
    annotation: str
    wire_name: str = ""
    default: str = ""
    member: MergedMember | None = None
    narrowed_to: tuple[str, ...] = ()

    def is_given_by(self, inherited: Field) -> bool:
        """Whether a class that inherits such a member need not declare this one.

        A member that may be absent in the base stays so: type checkers refuse to have it required again.
        """
        if (self.annotation, self.narrowed_to) != (inherited.annotation, inherited.narrowed_to):
            return False
        return self.default == inherited.default or not self.default


@attrs.frozen
class Class:
    """A class to be written.

    Attributes:
        name: the Python name.
        module: the Python module that holds it.
        kind: struct, union, command, event, or branch for a class that no definition has the name of.
        definition_name: the definition it is made of.
        bases: the class names that it is derived from, those of `hvkit.qmp.base` included.
        keywords: the class keywords, as source text.
        branches: of a union: class name by tag value.
        notes: sentences for the docstring.
        fields: the members it declares itself.
        all_fields: those and the inherited ones, by Python name.
    """

    name: str
    module: str
    kind: str
    definition_name: str
    bases: tuple[str, ...]
    keywords: Mapping[str, str] = attrs.field(factory=dict)
    branches: Mapping[str, str] = attrs.field(factory=dict)
    notes: tuple[str, ...] = ()
    fields: tuple[Field, ...] = ()
    all_fields: Mapping[str, Field] = attrs.field(factory=dict)


@attrs.frozen
class Alias:
    """An enumeration or an alternate to be written.

    Attributes:
        name: the Python name.
        module: the Python module that holds it.
        definition_name: the definition it is made of.
        alternatives: types, as annotations; empty for an enumeration.
        values: of an enumeration.
    """

    name: str
    module: str
    definition_name: str
    alternatives: tuple[str, ...]
    values: tuple[str, ...]


def literal_text(values: Iterable[str]) -> str:
    """Return the annotation that allows some strings, on one line."""
    return f"Literal[{', '.join(quoted(value) for value in values)}]"


def quoted(text: str) -> str:
    """Return a string literal. No name of the schema needs an escape."""
    return f'"{text}"'


class Classes:
    """All classes and aliases that are made of one schema.

    Attributes:
        schema: what they are made of.
        classes: by Python name.
        aliases: by Python name.
        commands: class name by wire name.
        events: class name by wire name.
    """

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.classes: dict[str, Class] = {}
        self.aliases: dict[str, Alias] = {}
        self._names = self._python_names()
        self._folded_names = {name.lower() for name in self._names.values()}
        # What a struct that is not fused with a union is as its branch: class name by (union, tag).
        self._branch_classes: dict[tuple[str, str], str] = {}
        for name in schema.names("enum", "alternate"):
            self._add_alias(name)
        for name in schema.names(*CLASS_KINDS):
            self._class_of(name)
        self.commands = {name: self._names[name] for name in schema.names("command")}
        self.events = {name: self._names[name] for name in schema.names("event")}

    def everything(self) -> list[Class | Alias]:
        """Return all classes and aliases."""
        return [*self.classes.values(), *self.aliases.values()]

    # ---- names

    def _python_names(self) -> dict[str, str]:
        """Return the Python name of every definition, by its name."""
        newest = self.schema.newest
        names = {}
        by_command: dict[str, str] = {}
        for name, definition in newest.items():
            if definition.kind == "command":
                names[name] = camel_case(name)
                by_command[names[name]] = name
            elif definition.kind == "event":
                names[name] = event_class_name(name)
        for name in newest:
            if name in names:
                continue
            names[name] = name
            command = by_command.get(name)
            if command is not None and newest[command].data != name:
                if newest[command].returns != name:
                    raise SchemaConflict(f"{name} is neither argument nor reply of the command of its name")
                names[name] = f"{name}Reply"
        return names

    def python_name(self, name: str) -> str:
        """Return the Python name of a definition."""
        return self._names[name]

    def annotation(self, type_name: str) -> str:
        """Return a schema type as an annotation."""
        if type_name.startswith("["):
            return f"list[{self.annotation(element(type_name))}]"
        if type_name in INTEGERS:
            return "int"
        return _SCALARS.get(type_name) or self._names[type_name]

    def _argument_struct(self, name: str) -> str:
        """Return the command that IS this struct, empty where there is none."""
        return next(
            (
                command
                for command, definition in self.schema.newest.items()
                if definition.kind == "command" and definition.data == name and self._names[command] == name
            ),
            "",
        )

    # ---- classes

    def _add_alias(self, name: str) -> None:
        definition = self.schema.newest[name]
        alternatives = tuple(self.annotation(item.type) for item in definition.members.values())
        alias = Alias(self._names[name], module_name(definition.module), name, alternatives, tuple(definition.values))
        self.aliases[alias.name] = alias

    def _class_of(self, name: str) -> Class:
        """Return the class of a definition, made now where it was not yet."""
        made = self.classes.get(self._names[name])
        if made is None:
            definition = self.schema.newest[name]
            if definition.kind == "command":
                made = self._command_class(name, definition)
            elif definition.kind == "event":
                made = self._event_class(name, definition)
            elif self._argument_struct(name):
                made = self._class_of(self._argument_struct(name))
            else:
                made = self._struct_class(name, definition)
            self.classes[made.name] = made
            if made.kind == "union":
                self._add_branch_classes(name, made)
        return made

    def _command_class(self, name: str, definition: Definition) -> Class:
        returned = self.annotation(definition.returns) if definition.returns else "None"
        base = f"Command[{returned}]" if returned in ("None", "Any", "str", "int") else f"Command[{quoted(returned)}]"
        keywords = {"wire_name": quoted(name)}
        if "no-success-response" in definition.flags:
            keywords["has_reply"] = "False"
        if "oob" in definition.flags:
            keywords["out_of_band"] = "True"
        data = definition.data
        if data and self.schema.is_union(data):
            keywords |= {"whole_argument": quoted("arguments"), "kw_only": "False"}
            return self._with_members(
                self._named(name, [], base, keywords=keywords), [Field("arguments", self._names[data])]
            )
        bases = []
        if data and self._names[data] == self._names[name]:
            # The struct is this class: it has the struct's own base.
            struct_base = self.schema.newest[data].base if data in self.schema.newest else ""
            bases = [struct_base] if struct_base else []
        elif data:
            bases = [data]
        fields = self._fields(self.schema.members(name), "command")
        if "no-gen" in definition.flags:
            fields.append(Field("properties", "FreeForm", default="free_form(factory=dict)"))
        return self._with_members(self._named(name, bases, base, keywords=keywords), fields)

    def _event_class(self, name: str, definition: Definition) -> Class:
        bases = [definition.data] if definition.data else []
        made = self._named(name, bases, "Event", keywords={"wire_name": quoted(name)})
        return self._with_members(made, self._fields(self.schema.members(name), "event"))

    def _struct_class(self, name: str, definition: Definition) -> Class:
        bases = [definition.base] if definition.base else []
        union = self.schema.fused_with(name)
        if union:
            return self._fused_class(name, union, bases)
        if definition.kind == "struct":
            made = self._named(name, bases, notes=self._shared_notes(name))
        else:
            branches = {tag: self._branch_class_name(name, tag) for tag in definition.variants}
            made = self._named(name, bases, "Union", keywords={"tag": quoted(definition.tag)}, branches=branches)
        return self._with_members(made, self._fields(self.schema.members(name), definition.kind))

    def _fused_class(self, name: str, union: str, bases: list[str]) -> Class:
        """Make a struct that lives for a union a subclass of it."""
        tags = self.schema.tags_by_branch(union).get(name, [])
        fields = self._fields(self.schema.members(name), "union")
        if tags and not self.schema.is_base(name):
            fields = self._narrowed(fields, self.schema.newest[union].tag, tags)
        if not any(self.schema.fused_with(base) for base in bases):
            bases = [*bases, union]
        note = self._branch_note(union, tags) if tags else f"A base of branches of `{union}`."
        return self._with_members(self._named(name, bases, notes=(note,)), fields)

    def _branch_note(self, union: str, tags: Sequence[str]) -> str:
        values = " or ".join(f"`{tag}`" for tag in tags)
        return f"Branch of `{self._names[union]}` where `{self.schema.newest[union].tag}` is {values}."

    def _shared_notes(self, name: str) -> tuple[str, ...]:
        """Return which class to use instead of a struct that lives outside the unions it is a branch of."""
        uses = [
            f"`{self._branch_class_name(union, tag)}` in `{union}`"
            for union in self.schema.names("union")
            for tag in self.schema.tags_by_branch(union).get(name, ())
        ]
        return (f"As a branch: {', '.join(uses)}.",) if uses else ()

    def _branch_class_name(self, union: str, tag: str) -> str:
        """Return the name of the class that is a union's branch."""
        branch = self.schema.newest[union].variants[tag].type
        if self.schema.fused_with(branch) == union:
            return self._names[branch]
        key = (union, tag)
        if key not in self._branch_classes:
            self._branch_classes[key] = self._free_name(self._names[union] + camel_case(tag))
        return self._branch_classes[key]

    def _free_name(self, wanted: str) -> str:
        name = wanted if wanted.lower() not in self._folded_names else f"{wanted}Branch"
        if name.lower() in self._folded_names:
            raise SchemaConflict(f"two classes would be called {name}")
        self._folded_names.add(name.lower())
        return name

    def _add_branch_classes(self, union: str, union_class: Class) -> None:
        """Make the branches of a union that are no structs of its own."""
        definition = self.schema.newest[union]
        for tag, variant in definition.variants.items():
            if self.schema.fused_with(variant.type) == union:
                continue
            branch = self._class_of(variant.type)
            merged = self.schema.branch_members(union, variant.type, [tag])
            fields = self._narrowed(self._fields(merged, "union"), definition.tag, [tag])
            name = self._branch_class_name(union, tag)
            inner = {each: f"{name}{camel_case(each)}" for each in branch.branches}
            made = Class(
                name=name,
                module=union_class.module,
                kind="branch",
                definition_name=variant.type,
                bases=(branch.name, union_class.name),
                keywords=branch.keywords,
                branches=inner,
                notes=(self._branch_note(union, [tag]),),
            )
            self.classes[name] = made = self._with_members(made, fields)
            for inner_tag, inner_name in inner.items():
                self._add_nested_branch(made, inner_tag, inner_name, branch)

    def _add_nested_branch(self, outer: Class, tag: str, name: str, union_class: Class) -> None:
        """Make a branch of a union that is itself a branch: it is both."""
        inner = self.classes[union_class.branches[tag]]
        if inner.branches:
            raise SchemaConflict(f"{name}: a union in a union in a union")
        tag_name = outer.keywords["tag"].strip('"')
        made = Class(
            name=self._free_name(name),
            module=outer.module,
            kind="branch",
            definition_name=inner.definition_name,
            bases=(inner.name, outer.name),
            notes=(f"Branch of `{outer.name}` where `{tag_name}` is `{tag}`.",),
        )
        self.classes[made.name] = self._with_members(made, ())

    # ---- members

    def _fields(self, members: Mapping[str, MergedMember], kind: str) -> list[Field]:
        fields = []
        for member in members.values():
            name = member_name(member.name, kind)
            fields.append(
                Field(
                    name=name,
                    annotation=self.annotation(member.type),
                    wire_name="" if ruled_wire_name(name) == member.name else member.name,
                    default="None" if member.is_optional else "",
                    member=member,
                )
            )
        return fields

    def _narrowed(self, fields: Sequence[Field], tag: str, values: Sequence[str]) -> list[Field]:
        """Return the fields with the tag allowing these values only; a single one need not be given."""
        narrowed = []
        for field in fields:
            if field.member is not None and field.member.name == tag:
                default = quoted(values[0]) if len(values) == 1 else ""
                field = attrs.evolve(field, annotation=literal_text(values), default=default, narrowed_to=tuple(values))
            narrowed.append(field)
        return narrowed

    def _named(
        self,
        name: str,
        bases: Sequence[str],
        seam_base: str = "",
        *,
        keywords: Mapping[str, str] | None = None,
        branches: Mapping[str, str] | None = None,
        notes: tuple[str, ...] = (),
    ) -> Class:
        """Return the class that has a definition's name, without its members yet.

        Args:
            name: the definition.
            bases: definitions that it is derived from.
            seam_base: a class of `hvkit.qmp.base` that it is derived from too.
            keywords: the class keywords.
            branches: of a union: class name by tag value.
            notes: sentences for the docstring.
        """
        definition = self.schema.newest[name]
        base_names = [self._class_of(base).name for base in bases] + ([seam_base] if seam_base else [])
        return Class(
            name=self._names[name],
            module=module_name(definition.module),
            kind=definition.kind,
            definition_name=name,
            bases=tuple(base_names) or ("Struct",),
            keywords=keywords or {},
            branches=branches or {},
            notes=notes,
        )

    def _with_members(self, made: Class, fields: Sequence[Field]) -> Class:
        """Return a class that has these members: it declares what it does not inherit."""
        inherited: dict[str, Field] = {}
        for base in reversed(made.bases):
            if base in self.classes:
                inherited |= self.classes[base].all_fields
        own = []
        for field in fields:
            known = inherited.get(field.name)
            if known is None or not field.is_given_by(known):
                own.append(field)
                if known is not None and field.default == "None" and not known.default:
                    raise SchemaConflict(f"{made.name}.{field.name} may be absent, but not in the base that has it")
        every = inherited | {field.name: field for field in own}
        wire_names = [field.wire_name or ruled_wire_name(field.name) for field in every.values()]
        if len(set(wire_names)) != len(wire_names):
            raise SchemaConflict(f"{made.name} has a member under two names")
        return attrs.evolve(made, fields=tuple(own), all_fields=every)
