-- Roles and schemas of the database that Wattbook publishes into and nothing else uses, for an administrator to read
-- and run:
--
--     psql --set=ON_ERROR_STOP=1 --dbname=<database> --file=deploy/postgres-roles.sql
--
-- It may be run again at any time. Afterwards:
--
-- 1. give the publisher a password (`\password wattbook_publisher`) and set
--    WATTBOOK_POSTGRES_DSN=postgresql://wattbook_publisher:<password>@<host>:5432/<database>
-- 2. let people and BI tools in by making their own roles members of a team:
--    create role anna login in role wattbook_finance;
--
-- Grant to the roles of teams, never on single tables: a table whose columns change is made anew, and gets its grants
-- from the default privileges below.

begin;

do $$
declare
    team text;
begin
    if not exists (select from pg_roles where rolname = 'wattbook_publisher') then
        create role wattbook_publisher login;
    end if;
    -- Nobody is here by being somebody: PUBLIC neither connects nor creates.
    execute format('revoke all on database %I from public', current_database());
    revoke all on schema public from public;
    execute format('grant connect on database %I to wattbook_publisher', current_database());

    -- What Wattbook keeps for itself: which rows of which build the teams' schemas hold.
    create schema if not exists wattbook;
    alter schema wattbook owner to wattbook_publisher;
    revoke all on schema wattbook from public;

    foreach team in array array['energy', 'finance', 'operations'] loop
        if not exists (select from pg_roles where rolname = 'wattbook_' || team) then
            execute format('create role %I nologin', 'wattbook_' || team);
        end if;
        execute format('grant connect on database %I to %I', current_database(), 'wattbook_' || team);
        execute format('create schema if not exists %I', team);
        execute format('alter schema %I owner to wattbook_publisher', team);
        execute format('revoke all on schema %I from public', team);
        execute format('grant usage on schema %I to %I', team, 'wattbook_' || team);
        -- Tables that are there, and those that publishing makes from now on.
        execute format('grant select on all tables in schema %I to %I', team, 'wattbook_' || team);
        execute format(
            'alter default privileges for role wattbook_publisher in schema %I grant select on tables to %I',
            team, 'wattbook_' || team
        );
    end loop;
end
$$;

commit;
