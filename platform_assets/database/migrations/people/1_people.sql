-- People who sign in by OpenID Connect or through a proxy. A person is a key without a known secret, so that the rules
-- of keys (scopes, owners, revocations, the proof of a decision) apply to people too.

alter table platform.api_keys add column is_person boolean;
comment on column platform.api_keys.is_person is
    'True for a person who signs in without a secret; the name is then the name that the provider gives. Else null.';
comment on column platform.api_keys.scopes is 'Allowed actions: read, predict, label, trace, approve or identify.';
alter table platform.api_keys drop constraint api_keys_scopes_check;
alter table platform.api_keys add constraint api_keys_scopes_check check (
    scopes <@ array['read', 'predict', 'label', 'trace', 'approve', 'identify'] and cardinality(scopes) > 0
);

alter table platform.sessions
    add column scopes text[],
    add column via text,
    add column vouched_by text;
comment on column platform.sessions.scopes is 'Scopes to which the groups of the person limit the session; null for no limit.';
comment on column platform.sessions.via is 'oidc or proxy, if the person signed in without a key. Else null.';
comment on column platform.sessions.vouched_by is 'Hash of the key with the scope identify that the service used. Else null.';

create or replace function platform.record_key() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    perform platform.enter_in_journal('key', new.hash, jsonb_strip_nulls(jsonb_build_object(
        'name', new.name, 'owner', new.owner, 'scopes', to_jsonb(new.scopes),
        'created_at', platform.written(new.created_at), 'is_person', new.is_person,
        'vouched_by', case when platform.is_owner() then 'owner' else
            nullif(current_setting('platform_assets.vouched_by', true), '') end
    )));
    return null;
end
$$;

-- The unexpired session that belongs to a token.
create function platform.session_of(token text) returns platform.sessions
language sql stable set search_path = pg_catalog, pg_temp as $$
    select session from platform.sessions session
    where session.hash = platform.secret_hash(token) and session.expires_at > clock_timestamp()
$$;

-- The key that belongs to a secret, which is the key's own secret or the token of a session. Its scopes are limited to
-- those of the session.
create or replace function platform.key_of(secret text) returns platform.api_keys
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    session platform.sessions := platform.session_of(secret);
    key platform.api_keys;
begin
    select * into key from platform.api_keys known
    where known.hash = coalesce(session.key_hash, platform.secret_hash(secret))
        and not exists (select from platform.api_key_revocations revoked where revoked.hash = known.hash);
    if session.scopes is not null then
        key.scopes := array(select unnest(key.scopes) intersect select unnest(session.scopes));
    end if;
    return key;
end
$$;

-- Returns {name, authenticated, may_approve, details}, or {why, name} if this actor may not act at all.
create or replace function platform.actor_of(secret text, claimed text) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    key platform.api_keys;
    session platform.sessions;
    name text := claimed;
begin
    if secret is not null then
        select * into key from platform.key_of(secret);
        if key.hash is null then
            return jsonb_build_object('why', 'unknown_key', 'name', '');
        end if;
        if platform.is_vouched(key.hash) then
            select * into session from platform.session_of(secret);
            return jsonb_build_object(
                'name', key.owner, 'authenticated', true, 'may_approve', 'approve' = any (key.scopes),
                'details', jsonb_strip_nulls(jsonb_build_object(
                    'key', left(key.hash, 16), 'journal', platform.journal_head(), 'via', session.via,
                    'identity', case when session.via is not null then key.name end,
                    'vouched_by', left(session.vouched_by, 16)
                ))
            );
        end if;
        name := key.owner;
    end if;
    if platform.folded(coalesce(name, '')) = '' then
        return jsonb_build_object('why', 'no_name', 'name', '');
    end if;
    if length(name) > 200 then
        return jsonb_build_object('why', 'long_name', 'name', '');
    end if;
    if not platform.is_printable(name, false) then
        return jsonb_build_object('why', 'unprintable_name', 'name', '');
    end if;
    if platform.identity_required() then
        return jsonb_build_object('why', 'not_authenticated', 'name', name);
    end if;
    return jsonb_build_object(
        'name', 'unverified: ' || name, 'authenticated', false, 'may_approve', true,
        'details', jsonb_build_object('claimed', name)
    );
end
$$;
