-- The journal: a second hash chain, over keys, revocations, projections and policies.

create table platform.approval_journal (
    sequence bigint primary key,
    kind text not null,
    subject text not null,
    details jsonb not null,
    role text not null,
    at timestamptz not null,
    previous_hash text not null,
    hash text not null
);
create index approval_journal_newest on platform.approval_journal (kind, subject, sequence desc);
comment on table platform.approval_journal is
    'Hash chain over keys, revocations, projections and policies. The newest entry of a policy is in force.';
comment on column platform.approval_journal.sequence is '1, 2, 3 .. without gaps.';
comment on column platform.approval_journal.kind is 'key, revocation, projection, rules, policy, folding or adoption.';
comment on column platform.approval_journal.subject is 'Hash of the key, sequence of the event, or name of the model.';
comment on column platform.approval_journal.details is 'The recorded row, or the policy.';
comment on column platform.approval_journal.role is 'The database role that was logged in.';
comment on column platform.approval_journal.at is 'Time by the clock of the database.';
comment on column platform.approval_journal.previous_hash is 'Hash of the previous entry; zeros for the first.';
comment on column platform.approval_journal.hash is 'Hash of all other columns.';

create function platform.chain_journal() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    last platform.approval_journal;
begin
    perform pg_advisory_xact_lock(119182731994482);
    select * into last from platform.approval_journal order by sequence desc limit 1;
    new.sequence := coalesce(last.sequence, 0) + 1;
    new.role := session_user;
    new.at := clock_timestamp();
    new.previous_hash := coalesce(last.hash, repeat('0', 64));
    new.hash := platform.digest_of(
        new.sequence::text, new.kind, new.subject, new.details::text, new.role, platform.written(new.at),
        new.previous_hash
    );
    return new;
end
$$;
create trigger chain_journal before insert on platform.approval_journal
for each row execute function platform.chain_journal();

create function platform.enter_in_journal(kind text, subject text, details jsonb) returns void
language sql as $$
    -- The trigger sets the other columns.
    insert into platform.approval_journal (kind, subject, details, sequence, role, at, previous_hash, hash)
    values (kind, subject, details, 0, '', now(), '', '')
$$;

-- Whether the role of the session owns the tables. If not, creating a key that approves needs the key of an approver.
create function platform.is_owner() returns boolean
language sql stable as $$
    select pg_has_role(session_user, relowner, 'member') from pg_class
    where oid = 'platform.approval_events'::regclass
$$;

create function platform.record_key() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    perform platform.enter_in_journal('key', new.hash, jsonb_strip_nulls(jsonb_build_object(
        'name', new.name, 'owner', new.owner, 'scopes', to_jsonb(new.scopes),
        'created_at', platform.written(new.created_at),
        'vouched_by', case when platform.is_owner() then 'owner' else
            nullif(current_setting('platform_assets.vouched_by', true), '') end
    )));
    return null;
end
$$;
create trigger record_key after insert on platform.api_keys
for each row execute function platform.record_key();

create function platform.record_revocation() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    perform platform.enter_in_journal(
        'revocation', new.hash, jsonb_build_object('at', platform.written(new.at))
    );
    return null;
end
$$;
create trigger record_revocation after insert on platform.api_key_revocations
for each row execute function platform.record_revocation();

create function platform.record_projection() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    perform platform.enter_in_journal(
        'projection', new.sequence::text, jsonb_build_object('at', platform.written(new.at))
    );
    return null;
end
$$;
create trigger record_projection after insert on platform.approval_projections
for each row execute function platform.record_projection();

create table platform.sessions (
    hash text primary key,
    key_hash text not null references platform.api_keys (hash),
    created_at timestamptz not null default clock_timestamp(),
    expires_at timestamptz not null
);
create index sessions_expiry on platform.sessions (expires_at);
comment on table platform.sessions is 'Browser sessions; signing out deletes the row.';
comment on column platform.sessions.hash is 'SHA-256 of the token in the cookie.';
comment on column platform.sessions.key_hash is 'The key that signed in.';
comment on column platform.sessions.created_at is 'Time of the sign-in.';
comment on column platform.sessions.expires_at is 'End of the session, unless the person signs out before.';

create table platform.case_folding (
    letter text collate "C" primary key,
    folded text not null
);
comment on table platform.case_folding is
    'Unicode case folding as Python''s str.casefold; names of people are compared by it.';
comment on column platform.case_folding.letter is 'One character.';
comment on column platform.case_folding.folded is 'Its folded form, of one character or more.';
