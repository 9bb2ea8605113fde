-- Functions that create keys and people, revoke them, and sign people in.

-- Whether the owner cannot be told apart from the platform, or from a person whose name no key verified.
create function platform.is_reserved(owner text) returns boolean
language sql stable set search_path = pg_catalog, pg_temp as $$
    select platform.folded(owner) in ('', 'platform', 'owner') or starts_with(platform.folded(owner), 'unverified:')
$$;

-- The people with a name, in any case, newest first.
create function platform.people_named(identity text) returns setof platform.api_keys
language sql stable set search_path = pg_catalog, pg_temp as $$
    select key from platform.api_keys key
    where key.is_person and platform.folded(key.name) = platform.folded(identity) order by key.created_at desc
$$;

create function platform.is_revoked(key_hash text) returns boolean
language sql stable set search_path = pg_catalog, pg_temp as $$
    select exists (select from platform.api_key_revocations revoked where revoked.hash = key_hash)
$$;

-- Ends the sessions of some keys, also those for which one of them vouched, and revokes the keys.
create function platform.revoke_hashes(hashes text[]) returns void
language sql set search_path = pg_catalog, pg_temp as $$
    delete from platform.sessions where key_hash = any (hashes) or vouched_by = any (hashes);
    insert into platform.api_key_revocations (hash) select unnest(hashes) on conflict do nothing
$$;

drop function platform.add_key(text, text, text[], text, text);
create function platform.add_key(
    name text, owner text, scopes text[], key_hash text, approver_secret text, is_person boolean default false
) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp set extra_float_digits = 1 set standard_conforming_strings = on as $$
declare
    approver platform.api_keys;
    vouched_by text := '';
    known text[];
begin
    perform platform.begin_step();
    if not platform.is_printable(owner, false) or (is_person and not platform.is_printable(name, false)) then
        return platform.refused('unprintable_name');
    end if;
    if platform.is_reserved(owner) or (is_person and platform.is_reserved(name)) then
        return platform.refused('reserved_name', owner);
    end if;
    -- Not the hash of a session's token either: the token would then stand for two keys.
    if (is_person and (length(name) > 200 or name <> btrim(name)))
        or (not is_person and name !~ '^[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}$')
        or key_hash !~ '^[0-9a-f]{64}$' or length(owner) > 200
        or exists (select from platform.sessions session where session.hash = add_key.key_hash)
    then
        return platform.refused('malformed_key', name);
    end if;
    if approver_secret is not null then
        select * into approver from platform.key_of(approver_secret);
        if approver.hash is null then
            return platform.refused('unknown_key');
        end if;
        if 'approve' = any (approver.scopes) and platform.is_vouched(approver.hash) then
            vouched_by := left(approver.hash, 16);
        end if;
    end if;
    known := array(
        select key.hash from platform.api_keys key
        where (key.name = add_key.name or (
            add_key.is_person and key.is_person and platform.folded(key.name) = platform.folded(add_key.name)
        )) and not platform.is_revoked(key.hash)
    );
    -- The owner or an approver replaces the entry of a person. A person is never replaced by a key.
    if cardinality(known) > 0 and not (
        is_person and (platform.is_owner() or vouched_by <> '')
        and not exists (select from platform.api_keys key where key.hash = any (known) and key.is_person is null)
    ) then
        return platform.refused('name_taken', name);
    end if;
    if 'approve' = any (scopes) and not platform.is_owner() and vouched_by = '' then
        return platform.refused('needs_approver', name);
    end if;
    -- Whoever has such a key can state who signed in, so an approver cannot create one.
    if 'identify' = any (scopes) and not platform.is_owner() then
        return platform.refused('needs_owner', name);
    end if;
    if 'identify' = any (scopes) and (is_person or cardinality(scopes) > 1) then
        return platform.refused('identifies_only', name);
    end if;
    perform platform.revoke_hashes(known);
    -- The trigger record_key reads it. No caller can set it for a row, because none may insert one.
    perform set_config('platform_assets.vouched_by', vouched_by, true);
    insert into platform.api_keys (name, owner, scopes, hash, is_person)
    values (name, owner, scopes, key_hash, nullif(is_person, false));
    perform set_config('platform_assets.vouched_by', '', true);
    return jsonb_build_object('outcome', 'recorded');
end
$$;
revoke execute on function platform.add_key from public;

create or replace function platform.revoke_key(named text) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp set extra_float_digits = 1 set standard_conforming_strings = on as $$
begin
    perform platform.begin_step();
    perform platform.revoke_hashes(array(select hash from platform.api_keys where name = named));
    return exists (select from platform.api_keys where name = named);
end
$$;

-- Starts a session for a person whom the service has identified by OpenID Connect or a proxy's header. The service proves
-- itself by the secret of a key with the scope identify. `allowed` are the scopes that the person's groups give; null if
-- groups give no scopes. A person who is not enrolled gets no scope approve.
create function platform.sign_in_person(
    identity text, allowed text[], via text, vouching_secret text, token_hash text, seconds integer
) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp set extra_float_digits = 1 set standard_conforming_strings = on as $$
declare
    service platform.api_keys;
    person platform.api_keys;
    added jsonb;
begin
    perform platform.begin_step();
    delete from platform.sessions where expires_at <= clock_timestamp();
    -- Not the token of a session: only the key itself vouches.
    select * into service from platform.api_keys key
    where key.hash = platform.secret_hash(vouching_secret) and 'identify' = any (key.scopes)
        and not platform.is_revoked(key.hash) and platform.is_vouched(key.hash);
    if not found then
        return platform.refused('unknown_service');
    end if;
    if via is null or via not in ('oidc', 'proxy') or token_hash is null or token_hash !~ '^[0-9a-f]{64}$'
        or exists (select from platform.api_keys known where known.hash = token_hash)
    then
        return platform.refused('malformed_session');
    end if;
    select * into person from platform.people_named(identity) known where not platform.is_revoked(known.hash);
    if not found and exists (select from platform.people_named(identity)) then
        return platform.refused('person_revoked', identity);
    end if;
    if person.hash is null then
        if cardinality(array_remove(coalesce(allowed, '{}'), 'approve')) = 0 then
            return platform.refused('unknown_person', identity);
        end if;
        -- Nobody knows a secret with this hash.
        added := platform.add_key(
            identity, identity, array['read', 'predict', 'label', 'trace'],
            encode(sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')), 'hex'), null, true
        );
        if added ? 'why' then
            return added;
        end if;
        select * into person from platform.people_named(identity) known where not platform.is_revoked(known.hash);
    end if;
    insert into platform.sessions (hash, key_hash, expires_at, scopes, via, vouched_by)
    values (
        token_hash, person.hash, clock_timestamp() + least(seconds, 28800) * interval '1 second', allowed, via,
        service.hash
    );
    return jsonb_build_object('outcome', 'recorded', 'enrolled', added is not null);
end
$$;
revoke execute on function platform.sign_in_person from public;
