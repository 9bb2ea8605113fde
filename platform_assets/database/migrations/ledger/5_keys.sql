-- Keys and sessions.

create function platform.add_key(name text, owner text, scopes text[], key_hash text, approver_secret text)
returns jsonb
language plpgsql security definer as $$
declare
    approver platform.api_keys;
    vouched_by text := '';
begin
    perform platform.begin_step();
    if not platform.is_printable(owner, false) then
        return platform.refused('unprintable_name');
    end if;
    if platform.folded(owner) in ('', 'platform', 'owner') or starts_with(platform.folded(owner), 'unverified:') then
        return platform.refused('reserved_name', owner);
    end if;
    -- Not the hash of a session's token either: the token would then stand for two keys.
    if name !~ '^[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}$' or key_hash !~ '^[0-9a-f]{64}$' or length(owner) > 200
        or exists (select from platform.sessions session where session.hash = add_key.key_hash)
    then
        return platform.refused('malformed_key', name);
    end if;
    if exists (
        select from platform.api_keys key where key.name = add_key.name
        and not exists (select from platform.api_key_revocations revoked where revoked.hash = key.hash)
    ) then
        return platform.refused('name_taken', name);
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
    if 'approve' = any (scopes) and not platform.is_owner() and vouched_by = '' then
        return platform.refused('needs_approver', name);
    end if;
    -- The trigger record_key reads it. No caller can set it for a row, because none may insert one.
    perform set_config('platform_assets.vouched_by', vouched_by, true);
    insert into platform.api_keys (name, owner, scopes, hash) values (name, owner, scopes, key_hash);
    perform set_config('platform_assets.vouched_by', '', true);
    return jsonb_build_object('outcome', 'recorded');
end
$$;

create function platform.revoke_key(named text) returns boolean
language plpgsql security definer as $$
begin
    perform platform.begin_step();
    delete from platform.sessions where key_hash in (select hash from platform.api_keys where name = named);
    insert into platform.api_key_revocations (hash)
    select hash from platform.api_keys where name = named on conflict do nothing;
    return exists (select from platform.api_keys where name = named);
end
$$;

-- Starts a session for the owner of a key. Only the hash of the token is stored.
create function platform.sign_in(secret text, token_hash text, seconds integer) returns boolean
language plpgsql security definer as $$
declare
    key platform.api_keys;
begin
    perform platform.begin_step();
    delete from platform.sessions where expires_at <= clock_timestamp();
    -- Not the hash of a key: its secret would then stand for the key of this session.
    if token_hash is null or token_hash !~ '^[0-9a-f]{64}$'
        or exists (select from platform.api_keys known where known.hash = token_hash)
    then
        return false;
    end if;
    -- Not the token of another session: a session cannot be prolonged without the key.
    select * into key from platform.api_keys known where known.hash = platform.secret_hash(secret)
        and not exists (select from platform.api_key_revocations revoked where revoked.hash = known.hash);
    if not found then
        return false;
    end if;
    insert into platform.sessions (hash, key_hash, expires_at)
    values (token_hash, key.hash, clock_timestamp() + least(seconds, 28800) * interval '1 second');
    return true;
end
$$;

create function platform.sign_out(token text) returns void
language sql security definer as $$
    delete from platform.sessions where hash = platform.secret_hash(token)
$$;
