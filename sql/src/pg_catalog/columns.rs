//! Which catalog tables there are, and their columns. Names, order and types: PostgreSQL 16, chapter "System
//! Catalogs" and "The Information Schema"; columns nobody asks for are left out.

use crate::catalog::{INFORMATION_SCHEMA, PG_CATALOG};

use super::Kind;

pub struct Table {
    pub schema: &'static str,
    pub name: &'static str,
    /// `name type, …`; a column without type is text.
    columns: &'static str,
}

impl Table {
    pub(super) fn columns(&self) -> impl Iterator<Item = (&'static str, Kind)> {
        self.columns.split(',').map(|column| {
            let mut words = column.split_whitespace();
            let name = words.next().unwrap_or_default();
            let kind = match words.next() {
                Some("oid") => Kind::Oid,
                Some("name") => Kind::Name,
                Some("char") => Kind::Char,
                Some("bool") => Kind::Bool,
                Some("int2") => Kind::Int2,
                Some("int4") => Kind::Int4,
                Some("int8") => Kind::Int8,
                Some("float4") => Kind::Float4,
                Some("oid[]") => Kind::Oids,
                Some("text[]") => Kind::Texts,
                _ => Kind::Text,
            };
            (name, kind)
        })
    }
}

const fn pg(name: &'static str, columns: &'static str) -> Table {
    Table { schema: PG_CATALOG, name, columns }
}

const fn information(name: &'static str, columns: &'static str) -> Table {
    Table { schema: INFORMATION_SCHEMA, name, columns }
}

pub static TABLES: &[Table] = &[
    pg("pg_aggregate", "aggfnoid oid, aggkind char, aggnumdirectargs int2"),
    pg("pg_am", "oid oid, amname name, amhandler oid, amtype char"),
    pg(
        "pg_amop",
        "oid oid, amopfamily oid, amoplefttype oid, amoprighttype oid, amopstrategy int2, amoppurpose char, amopopr oid, amopmethod oid, amopsortfamily oid",
    ),
    pg("pg_attrdef", "oid oid, adrelid oid, adnum int2, adbin"),
    pg(
        "pg_attribute",
        "attrelid oid, attname name, atttypid oid, attlen int2, attnum int2, attcacheoff int4, atttypmod int4, attndims int2, attbyval bool, attalign char, attstorage char, attcompression char, attnotnull bool, atthasdef bool, atthasmissing bool, attidentity char, attgenerated char, attisdropped bool, attislocal bool, attinhcount int2, attstattarget int2, attcollation oid, attacl text[], attoptions text[], attfdwoptions text[]",
    ),
    pg(
        "pg_auth_members",
        "oid oid, roleid oid, member oid, grantor oid, admin_option bool, inherit_option bool, set_option bool",
    ),
    pg("pg_authid", "oid oid, rolname name, rolsuper bool, rolcanlogin bool"),
    pg("pg_available_extensions", "name name, default_version, installed_version, comment"),
    pg("pg_cast", "oid oid, castsource oid, casttarget oid, castfunc oid, castcontext char, castmethod char"),
    pg(
        "pg_class",
        "oid oid, relname name, relnamespace oid, reltype oid, reloftype oid, relowner oid, relam oid, relfilenode oid, reltablespace oid, relpages int4, reltuples float4, relallvisible int4, reltoastrelid oid, relhasindex bool, relisshared bool, relpersistence char, relkind char, relnatts int2, relchecks int2, relhasrules bool, relhastriggers bool, relhassubclass bool, relrowsecurity bool, relforcerowsecurity bool, relispopulated bool, relreplident char, relispartition bool, relrewrite oid, relfrozenxid oid, relminmxid oid, relacl text[], reloptions text[], relpartbound, relhasoids bool",
    ),
    pg(
        "pg_collation",
        "oid oid, collname name, collnamespace oid, collowner oid, collprovider char, collisdeterministic bool, collencoding int4, collcollate, collctype, colliculocale, collicurules, collversion",
    ),
    pg(
        "pg_constraint",
        "oid oid, conname name, connamespace oid, contype char, condeferrable bool, condeferred bool, convalidated bool, conrelid oid, contypid oid, conindid oid, conparentid oid, confrelid oid, confupdtype char, confdeltype char, confmatchtype char, conislocal bool, coninhcount int2, connoinherit bool, conkey oid[], confkey oid[], conbin",
    ),
    pg(
        "pg_conversion",
        "oid oid, conname name, connamespace oid, conowner oid, conforencoding int4, contoencoding int4, condefault bool",
    ),
    pg("pg_cursors", "name, statement, is_holdable bool, is_binary bool, is_scrollable bool"),
    pg(
        "pg_database",
        "oid oid, datname name, datdba oid, encoding int4, datlocprovider char, datistemplate bool, datallowconn bool, datconnlimit int4, datfrozenxid oid, datminmxid oid, dattablespace oid, datcollate, datctype, daticulocale, daticurules, datcollversion, datacl text[], datlastsysoid oid",
    ),
    pg("pg_db_role_setting", "setdatabase oid, setrole oid, setconfig text[]"),
    pg("pg_default_acl", "oid oid, defaclrole oid, defaclnamespace oid, defaclobjtype char, defaclacl text[]"),
    pg(
        "pg_depend",
        "classid oid, objid oid, objsubid int4, refclassid oid, refobjid oid, refobjsubid int4, deptype char",
    ),
    pg("pg_description", "objoid oid, classoid oid, objsubid int4, description"),
    pg("pg_enum", "oid oid, enumtypid oid, enumsortorder float4, enumlabel name"),
    pg(
        "pg_event_trigger",
        "oid oid, evtname name, evtevent name, evtowner oid, evtfoid oid, evtenabled char, evttags text[]",
    ),
    pg("pg_extension", "oid oid, extname name, extowner oid, extnamespace oid, extrelocatable bool, extversion"),
    pg(
        "pg_foreign_data_wrapper",
        "oid oid, fdwname name, fdwowner oid, fdwhandler oid, fdwvalidator oid, fdwacl text[], fdwoptions text[]",
    ),
    pg(
        "pg_foreign_server",
        "oid oid, srvname name, srvowner oid, srvfdw oid, srvtype, srvversion, srvacl text[], srvoptions text[]",
    ),
    pg("pg_foreign_table", "ftrelid oid, ftserver oid, ftoptions text[]"),
    pg(
        "pg_index",
        "indexrelid oid, indrelid oid, indnatts int2, indnkeyatts int2, indisunique bool, indnullsnotdistinct bool, indisprimary bool, indisexclusion bool, indimmediate bool, indisclustered bool, indisvalid bool, indcheckxmin bool, indisready bool, indislive bool, indisreplident bool, indkey oid[], indcollation oid[], indclass oid[], indoption oid[], indexprs, indpred",
    ),
    pg("pg_indexes", "schemaname name, tablename name, indexname name, tablespace name, indexdef"),
    pg("pg_inherits", "inhrelid oid, inhparent oid, inhseqno int4, inhdetachpending bool"),
    pg("pg_keywords", "word, catcode char, barelabel bool, catdesc, baredesc"),
    pg(
        "pg_language",
        "oid oid, lanname name, lanowner oid, lanispl bool, lanpltrusted bool, lanplcallfoid oid, laninline oid, lanvalidator oid, lanacl text[]",
    ),
    pg("pg_largeobject_metadata", "oid oid, lomowner oid, lomacl text[]"),
    pg("pg_locks", "locktype, database oid, relation oid, pid int4, mode, granted bool"),
    pg(
        "pg_matviews",
        "schemaname name, matviewname name, matviewowner name, tablespace name, hasindexes bool, ispopulated bool, definition",
    ),
    pg("pg_namespace", "oid oid, nspname name, nspowner oid, nspacl text[]"),
    pg(
        "pg_opclass",
        "oid oid, opcmethod oid, opcname name, opcnamespace oid, opcowner oid, opcfamily oid, opcintype oid, opcdefault bool, opckeytype oid",
    ),
    pg(
        "pg_operator",
        "oid oid, oprname name, oprnamespace oid, oprowner oid, oprkind char, oprleft oid, oprright oid, oprresult oid, oprcode oid",
    ),
    pg("pg_opfamily", "oid oid, opfmethod oid, opfname name, opfnamespace oid, opfowner oid"),
    pg("pg_parameter_acl", "oid oid, parname, paracl text[]"),
    pg("pg_partitioned_table", "partrelid oid, partstrat char, partnatts int2, partdefid oid, partattrs oid[]"),
    pg(
        "pg_policies",
        "schemaname name, tablename name, policyname name, permissive, roles text[], cmd, qual, with_check",
    ),
    pg(
        "pg_policy",
        "oid oid, polname name, polrelid oid, polcmd char, polpermissive bool, polroles oid[], polqual, polwithcheck",
    ),
    pg("pg_prepared_statements", "name, statement, from_sql bool"),
    pg(
        "pg_proc",
        "oid oid, proname name, pronamespace oid, proowner oid, prolang oid, procost float4, prorows float4, provariadic oid, prosupport oid, prokind char, prosecdef bool, proleakproof bool, proisstrict bool, proretset bool, provolatile char, proparallel char, pronargs int2, pronargdefaults int2, prorettype oid, proargtypes oid[], proallargtypes oid[], proargmodes text[], proargnames text[], prosrc, probin, proacl text[]",
    ),
    pg(
        "pg_publication",
        "oid oid, pubname name, pubowner oid, puballtables bool, pubinsert bool, pubupdate bool, pubdelete bool, pubtruncate bool, pubviaroot bool",
    ),
    pg("pg_publication_namespace", "oid oid, pnpubid oid, pnnspid oid"),
    pg("pg_publication_rel", "oid oid, prpubid oid, prrelid oid, prqual, prattrs oid[]"),
    pg(
        "pg_range",
        "rngtypid oid, rngsubtype oid, rngmultitypid oid, rngcollation oid, rngsubopc oid, rngcanonical oid, rngsubdiff oid",
    ),
    pg("pg_replication_slots", "slot_name name, plugin name, slot_type, active bool"),
    pg("pg_rewrite", "oid oid, rulename name, ev_class oid, ev_type char, ev_enabled char, is_instead bool"),
    pg(
        "pg_roles",
        "rolname name, rolsuper bool, rolinherit bool, rolcreaterole bool, rolcreatedb bool, rolcanlogin bool, rolreplication bool, rolconnlimit int4, rolpassword, rolvaliduntil, rolbypassrls bool, rolconfig text[], oid oid",
    ),
    pg("pg_seclabel", "objoid oid, classoid oid, objsubid int4, provider, label"),
    pg(
        "pg_sequence",
        "seqrelid oid, seqtypid oid, seqstart int8, seqincrement int8, seqmax int8, seqmin int8, seqcache int8, seqcycle bool",
    ),
    pg("pg_sequences", "schemaname name, sequencename name, sequenceowner name, last_value int8"),
    pg(
        "pg_settings",
        "name, setting, unit, category, short_desc, extra_desc, context, vartype, source, min_val, max_val, enumvals text[], boot_val, reset_val, sourcefile, sourceline int4, pending_restart bool",
    ),
    pg(
        "pg_shadow",
        "usename name, usesysid oid, usecreatedb bool, usesuper bool, userepl bool, usebypassrls bool, passwd",
    ),
    pg("pg_shdescription", "objoid oid, classoid oid, description"),
    pg("pg_shdepend", "dbid oid, classid oid, objid oid, objsubid int4, refclassid oid, refobjid oid, deptype char"),
    pg(
        "pg_stat_user_tables",
        "relid oid, schemaname name, relname name, seq_scan int8, n_live_tup int8, n_dead_tup int8",
    ),
    pg(
        "pg_statistic_ext",
        "oid oid, stxrelid oid, stxname name, stxnamespace oid, stxowner oid, stxstattarget int4, stxkeys oid[], stxkind text[], stxexprs",
    ),
    pg(
        "pg_subscription",
        "oid oid, subdbid oid, subname name, subowner oid, subenabled bool, subbinary bool, substream char, subconninfo, subpublications text[]",
    ),
    pg(
        "pg_tables",
        "schemaname name, tablename name, tableowner name, tablespace name, hasindexes bool, hasrules bool, hastriggers bool, rowsecurity bool",
    ),
    pg("pg_tablespace", "oid oid, spcname name, spcowner oid, spcacl text[], spcoptions text[]"),
    pg("pg_transform", "oid oid, trftype oid, trflang oid"),
    pg(
        "pg_trigger",
        "oid oid, tgrelid oid, tgparentid oid, tgname name, tgfoid oid, tgtype int2, tgenabled char, tgisinternal bool, tgconstrrelid oid, tgconstrindid oid, tgconstraint oid, tgdeferrable bool, tginitdeferred bool, tgnargs int2",
    ),
    pg("pg_ts_config", "oid oid, cfgname name, cfgnamespace oid, cfgowner oid, cfgparser oid"),
    pg("pg_ts_dict", "oid oid, dictname name, dictnamespace oid, dictowner oid, dicttemplate oid, dictinitoption"),
    pg("pg_ts_parser", "oid oid, prsname name, prsnamespace oid"),
    pg("pg_ts_template", "oid oid, tmplname name, tmplnamespace oid"),
    pg(
        "pg_type",
        "oid oid, typname name, typnamespace oid, typowner oid, typlen int2, typbyval bool, typtype char, typcategory char, typispreferred bool, typisdefined bool, typdelim char, typrelid oid, typsubscript oid, typelem oid, typarray oid, typinput, typoutput, typreceive, typsend, typmodin oid, typmodout oid, typanalyze oid, typalign char, typstorage char, typnotnull bool, typbasetype oid, typtypmod int4, typndims int4, typcollation oid, typdefaultbin, typdefault, typacl text[]",
    ),
    pg(
        "pg_user",
        "usename name, usesysid oid, usecreatedb bool, usesuper bool, userepl bool, usebypassrls bool, passwd, valuntil, useconfig text[]",
    ),
    pg("pg_user_mapping", "oid oid, umuser oid, umserver oid, umoptions text[]"),
    pg("pg_user_mappings", "umid oid, srvid oid, srvname name, umuser oid, usename name, umoptions text[]"),
    pg("pg_views", "schemaname name, viewname name, viewowner name, definition"),
    information(
        "character_sets",
        "character_set_catalog, character_set_schema, character_set_name, character_repertoire, form_of_use",
    ),
    information("check_constraints", "constraint_catalog, constraint_schema, constraint_name, check_clause"),
    information(
        "column_privileges",
        "grantor, grantee, table_catalog, table_schema, table_name, column_name, privilege_type, is_grantable",
    ),
    information(
        "columns",
        "table_catalog, table_schema, table_name, column_name, ordinal_position int4, column_default, is_nullable, data_type, character_maximum_length int4, character_octet_length int4, numeric_precision int4, numeric_precision_radix int4, numeric_scale int4, datetime_precision int4, interval_type, interval_precision int4, character_set_name, collation_name, domain_catalog, domain_schema, domain_name, udt_catalog, udt_schema, udt_name, dtd_identifier, is_self_referencing, is_identity, identity_generation, is_generated, generation_expression, is_updatable",
    ),
    information(
        "constraint_column_usage",
        "table_catalog, table_schema, table_name, column_name, constraint_catalog, constraint_schema, constraint_name",
    ),
    information("domains", "domain_catalog, domain_schema, domain_name, data_type"),
    information(
        "element_types",
        "object_catalog, object_schema, object_name, object_type, collection_type_identifier, data_type",
    ),
    information(
        "key_column_usage",
        "constraint_catalog, constraint_schema, constraint_name, table_catalog, table_schema, table_name, column_name, ordinal_position int4, position_in_unique_constraint int4",
    ),
    information(
        "parameters",
        "specific_catalog, specific_schema, specific_name, ordinal_position int4, parameter_mode, parameter_name, data_type",
    ),
    information(
        "referential_constraints",
        "constraint_catalog, constraint_schema, constraint_name, unique_constraint_catalog, unique_constraint_schema, unique_constraint_name, match_option, update_rule, delete_rule",
    ),
    information(
        "role_table_grants",
        "grantor, grantee, table_catalog, table_schema, table_name, privilege_type, is_grantable, with_hierarchy",
    ),
    information(
        "routines",
        "specific_catalog, specific_schema, specific_name, routine_catalog, routine_schema, routine_name, routine_type, data_type, routine_definition, external_language",
    ),
    information(
        "schemata",
        "catalog_name, schema_name, schema_owner, default_character_set_catalog, default_character_set_schema, default_character_set_name, sql_path",
    ),
    information(
        "sequences",
        "sequence_catalog, sequence_schema, sequence_name, data_type, start_value, minimum_value, maximum_value, increment, cycle_option",
    ),
    information(
        "table_constraints",
        "constraint_catalog, constraint_schema, constraint_name, table_catalog, table_schema, table_name, constraint_type, is_deferrable, initially_deferred, enforced",
    ),
    information(
        "table_privileges",
        "grantor, grantee, table_catalog, table_schema, table_name, privilege_type, is_grantable, with_hierarchy",
    ),
    information(
        "tables",
        "table_catalog, table_schema, table_name, table_type, self_referencing_column_name, reference_generation, user_defined_type_catalog, user_defined_type_schema, user_defined_type_name, is_insertable_into, is_typed, commit_action",
    ),
    information(
        "triggers",
        "trigger_catalog, trigger_schema, trigger_name, event_manipulation, event_object_schema, event_object_table, action_statement, action_timing",
    ),
    information(
        "views",
        "table_catalog, table_schema, table_name, view_definition, check_option, is_updatable, is_insertable_into",
    ),
];
