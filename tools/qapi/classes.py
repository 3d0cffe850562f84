# SPDX-License-Identifier: BSD-2-Clause
"""The classes for a schema: their names, bases, members and modules.

Rules that are not obvious:

* A struct that is used only as a branch of one union becomes a subclass of the union, with its tag narrowed.
* A struct with other uses stays independent of the union. The branch is an additional class, ``<Union><Tag>``.
* A command and the struct of its arguments become one class if they have the same name. A reply with the name of its
  command is called ``<Name>Reply``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs

from tools.qapi.facts import INTEGERS, Definition, element
from tools.qapi.model import MergedMember, Schema, SchemaConflict
from tools.qapi.naming import camel_case, default_wire_name, event_class_name, member_name, module_name

_SCALARS = {"str": "str", "bool": "bool", "number": "float", "any": "Any", "null": "Null"}

#: Kinds of definitions that become classes.
CLASS_KINDS = ("struct", "union", "event", "command")


@attrs.frozen
class Field:
    """A member in a class declaration.

    Attributes:
        name: the Python name.
        annotation: the type, without the None of an optional member.
        wire_name: the wire name; empty if it follows from the Python name.
        default: the default as source text; empty if the member is required.
        member: the member in the schema; None if the schema does not have it.
        narrowed_to: the tag values of the branch, if this is the tag of a branch.
    """

    name: str
    annotation: str
    wire_name: str = ""
    default: str = ""
    member: MergedMember | None = None
    narrowed_to: tuple[str, ...] = ()

    def is_inherited_from(self, inherited: Field) -> bool:
        """Whether a class that inherits that member does not need to declare this one.

        A member that is optional in the base stays optional: type checkers reject a required override.
        """
        if (self.annotation, self.narrowed_to) != (inherited.annotation, inherited.narrowed_to):
            return False
        return self.default == inherited.default or not self.default


@attrs.frozen
class Class:
    """A class to generate.

    Attributes:
        name: the Python name.
        module: the Python module of the class.
        kind: struct, union, command or event; branch for a class that is not named after a definition.
        definition_name: the definition behind the class.
        bases: the names of the base classes, those from `hvkit.qmp.base` included.
        keywords: the class keywords, as source text.
        branches: of a union: class names by tag value.
        notes: sentences for the docstring.
        fields: the members that the class declares.
        all_fields: the declared and the inherited members, by Python name.
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
    """An alias to generate, for an enumeration or an alternate.

    Attributes:
        name: the Python name.
        module: the Python module of the alias.
        definition_name: the definition behind the alias.
        alternatives: of an alternate: its types, as annotations.
        values: of an enumeration: its values.
    """

    name: str
    module: str
    definition_name: str
    alternatives: tuple[str, ...]
    values: tuple[str, ...]


def literal_text(values: Iterable[str]) -> str:
    """Return a `Literal` annotation for some strings, on one line."""
    return f"Literal[{', '.join(quoted(value) for value in values)}]"


def quoted(text: str) -> str:
    """Return a string literal. Names in the schema need no escapes."""
    return f'"{text}"'


class Classes:
    """All classes and aliases for one schema.

    Attributes:
        schema: the schema.
        classes: by Python name.
        aliases: by Python name.
        commands: class names by wire name.
        events: class names by wire name.
    """

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.classes: dict[str, Class] = {}
        self.aliases: dict[str, Alias] = {}
        self._names = self._python_names()
        self._folded_names = {name.lower() for name in self._names.values()}
        # The branch classes for structs that have other uses: class names by (union, tag).
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
                    raise SchemaConflict(f"{name} is neither the argument nor the reply of the command with its name")
                names[name] = f"{name}Reply"
        return names

    def annotation(self, type_name: str) -> str:
        """Return a schema type as an annotation."""
        if type_name.startswith("["):
            return f"list[{self.annotation(element(type_name))}]"
        if type_name in INTEGERS:
            return "int"
        return _SCALARS.get(type_name) or self._names[type_name]

    def _argument_struct(self, name: str) -> str:
        """Return the command that shares its class with a struct; empty if there is none."""
        return next(
            (
                command
                for command, definition in self.schema.newest.items()
                if definition.kind == "command" and definition.data == name and self._names[command] == name
            ),
            "",
        )

    def _add_alias(self, name: str) -> None:
        definition = self.schema.newest[name]
        alternatives = tuple(self.annotation(item.type) for item in definition.members.values())
        alias = Alias(self._names[name], module_name(definition.module), name, alternatives, tuple(definition.values))
        self.aliases[alias.name] = alias

    def _class_of(self, name: str) -> Class:
        """Return the class for a definition; make it if necessary."""
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
            # The class is also the struct, so it has the base of the struct.
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
        union = self.schema.union_of(name)
        if union:
            return self._union_member_class(name, union, bases)
        if definition.kind == "struct":
            made = self._named(name, bases, notes=self._shared_notes(name))
        else:
            branches = {tag: self._branch_class_name(name, tag) for tag in definition.variants}
            made = self._named(name, bases, "Union", keywords={"tag": quoted(definition.tag)}, branches=branches)
        return self._with_members(made, self._fields(self.schema.members(name), definition.kind))

    def _union_member_class(self, name: str, union: str, bases: list[str]) -> Class:
        """Return the class for a struct that is used only by a union: a subclass of the union."""
        tags = self.schema.tags_by_branch(union).get(name, [])
        fields = self._fields(self.schema.members(name), "union")
        if tags and not self.schema.is_base(name):
            fields = self._narrowed(fields, self.schema.newest[union].tag, tags)
        if not any(self.schema.union_of(base) for base in bases):
            bases = [*bases, union]
        note = self._branch_note(union, tags) if tags else f"Base class of branches of `{union}`."
        return self._with_members(self._named(name, bases, notes=(note,)), fields)

    def _branch_note(self, union: str, tags: Sequence[str]) -> str:
        values = " or ".join(f"`{tag}`" for tag in tags)
        return f"Branch of `{self._names[union]}` where `{self.schema.newest[union].tag}` is {values}."

    def _shared_notes(self, name: str) -> tuple[str, ...]:
        """Return a note on the branch classes for a struct that has other uses; empty if it is not a branch."""
        uses = [
            f"`{self._branch_class_name(union, tag)}` in `{union}`"
            for union in self.schema.names("union")
            for tag in self.schema.tags_by_branch(union).get(name, ())
        ]
        return (f"As a union branch: {', '.join(uses)}.",) if uses else ()

    def _branch_class_name(self, union: str, tag: str) -> str:
        """Return the name of the class for a branch of a union."""
        branch = self.schema.newest[union].variants[tag].type
        if self.schema.union_of(branch) == union:
            return self._names[branch]
        key = (union, tag)
        if key not in self._branch_classes:
            self._branch_classes[key] = self._free_name(self._names[union] + camel_case(tag))
        return self._branch_classes[key]

    def _free_name(self, wanted: str) -> str:
        name = wanted if wanted.lower() not in self._folded_names else f"{wanted}Branch"
        if name.lower() in self._folded_names:
            raise SchemaConflict(f"two classes would have the name {name}")
        self._folded_names.add(name.lower())
        return name

    def _add_branch_classes(self, union: str, union_class: Class) -> None:
        """Make the classes for branches of a union whose structs have other uses."""
        definition = self.schema.newest[union]
        for tag, variant in definition.variants.items():
            if self.schema.union_of(variant.type) == union:
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
        """Make the class for a branch of a union that is itself a branch: it derives from both."""
        inner = self.classes[union_class.branches[tag]]
        if inner.branches:
            raise SchemaConflict(f"{name}: unions nested three levels deep are not supported")
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

    def _fields(self, members: Mapping[str, MergedMember], kind: str) -> list[Field]:
        fields = []
        for member in members.values():
            name = member_name(member.name, kind)
            fields.append(
                Field(
                    name=name,
                    annotation=self.annotation(member.type),
                    wire_name="" if default_wire_name(name) == member.name else member.name,
                    default="None" if member.is_optional else "",
                    member=member,
                )
            )
        return fields

    def _narrowed(self, fields: Sequence[Field], tag: str, values: Sequence[str]) -> list[Field]:
        """Return the fields with the tag restricted to some values; a single value becomes the default."""
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
        library_base: str = "",
        *,
        keywords: Mapping[str, str] | None = None,
        branches: Mapping[str, str] | None = None,
        notes: tuple[str, ...] = (),
    ) -> Class:
        """Return the class with the name of a definition, without members.

        Args:
            name: the definition.
            bases: the definitions to derive from.
            library_base: a further base class, from `hvkit.qmp.base`.
            keywords: the class keywords.
            branches: of a union: class names by tag value.
            notes: sentences for the docstring.
        """
        definition = self.schema.newest[name]
        base_names = [self._class_of(base).name for base in bases] + ([library_base] if library_base else [])
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
        """Return a class with some members; it declares those that it does not inherit."""
        inherited: dict[str, Field] = {}
        for base in reversed(made.bases):
            if base in self.classes:
                inherited |= self.classes[base].all_fields
        own = []
        for field in fields:
            known = inherited.get(field.name)
            if known is None or not field.is_inherited_from(known):
                own.append(field)
                if known is not None and field.default == "None" and not known.default:
                    raise SchemaConflict(f"{made.name}.{field.name} is optional, but required in a base")
        every = inherited | {field.name: field for field in own}
        wire_names = [field.wire_name or default_wire_name(field.name) for field in every.values()]
        if len(set(wire_names)) != len(wire_names):
            raise SchemaConflict(f"{made.name}: two members have the same wire name")
        return attrs.evolve(made, fields=tuple(own), all_fields=every)
