-- Functions that find the person behind a secret and the rules in force.

create function platform.secret_hash(secret text) returns text
language sql immutable as $$
    select encode(sha256(convert_to(secret, 'UTF8')), 'hex')
$$;

-- The form in which names are compared: case-folded and without surrounding white space.
create function platform.folded(name text) returns text
language sql stable as $$
    select coalesce(string_agg(coalesce(known.folded, given.letter), '' order by given.place), '')
    from unnest(string_to_array(
        btrim(
            name,
            E'\u0009\u000a\u000b\u000c\u000d\u001c\u001d\u001e\u001f\u0020\u0085\u00a0\u1680\u2000\u2001\u2002'
            || E'\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000'
        ),
        null
    )) with ordinality as given (letter, place)
    left join platform.case_folding known on known.letter = given.letter collate "C"
$$;

-- Whether a text contains no control characters and no invisible formatting.
create function platform.is_printable(value text, lines boolean) returns boolean
language sql immutable as $$
    select translate(value, case when lines then E'\n\t' else '' end, '') !~ (
        E'[\u0001-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb'
        || E'\U000e0000-\U000e007f]'
    )
$$;

-- Whether every reader can parse the evidence. What is in the ledger cannot be removed, and one request that no list
-- or audit can read would block all.
create function platform.is_readable(evidence jsonb) returns boolean
language sql immutable as $$
    select coalesce(
        jsonb_typeof(evidence) = 'object'
        and octet_length(evidence::text) <= 20000000
        -- Python's parser refuses deep nesting, and integers with more than 4,300 digits.
        and not jsonb_path_exists(evidence, 'strict $.**{50}')
        and not jsonb_path_exists(
            evidence, 'strict $.** ? (@.type() == "number") ? (@ > 1e308 || @ < -1e308)'
        )
        and not exists (
            select from (
                select key, value from jsonb_each(evidence)
                union all
                select key, value from jsonb_each(
                    case when jsonb_typeof(evidence -> 'registered') = 'object' then evidence -> 'registered' end
                )
            ) part
            where key in ('metrics', 'difference', 'subgroups', 'verdict', 'tables', 'table_digests', 'champion',
                'registered', 'record', 'runs', 'parameters', 'tags')
                and jsonb_typeof(value) not in ('object', 'null')
        ),
        false
    )
$$;

-- Every function that writes calls this first. The isolation level is checked, because a snapshot from before the lock
-- could lack a revocation.
create function platform.begin_step() returns void
language plpgsql as $$
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'the ledger is written in READ COMMITTED transactions only'
            using errcode = 'invalid_transaction_state';
    end if;
    perform pg_advisory_xact_lock(119182731994482);
end
$$;

create function platform.rule(kind text, subject text) returns jsonb
language sql stable as $$
    select entry.details from platform.approval_journal entry
    where entry.kind = rule.kind and entry.subject = rule.subject order by entry.sequence desc limit 1
$$;

-- Whether decisions need a key. If no rule is recorded, they do.
create function platform.identity_required() returns boolean
language sql stable as $$
    select coalesce((platform.rule('rules', '') ->> 'identity_required')::boolean, true)
$$;

create function platform.journal_head() returns text
language sql stable as $$
    select sequence || ':' || hash from platform.approval_journal order by sequence desc limit 1
$$;

-- Number of the last event from before migration 0004. Events up to it are accepted without a proof of identity.
create function platform.adopted_events() returns bigint
language sql stable as $$
    select coalesce((platform.rule('adoption', 'approval_events') ->> 'sequence')::bigint, 0)
$$;

-- The key that belongs to a secret, which is the key's own secret or the token of a session.
create function platform.key_of(secret text) returns platform.api_keys
language sql stable as $$
    select key from platform.api_keys key
    where key.hash = coalesce(
        (
            select session.key_hash from platform.sessions session
            where session.hash = platform.secret_hash(secret) and session.expires_at > clock_timestamp()
        ),
        platform.secret_hash(secret)
    )
    and not exists (select from platform.api_key_revocations revoked where revoked.hash = key.hash)
$$;

-- Whether a key was created by the tables' owner or with an approver's key. Keys for reading and predicting need
-- neither.
create function platform.is_vouched(key_hash text) returns boolean
language sql stable as $$
    select coalesce(platform.rule('key', key_hash) ? 'vouched_by', false)
$$;

-- Returns {name, authenticated, may_approve, details}, or {why, name} if this actor may not act at all.
create function platform.actor_of(secret text, claimed text) returns jsonb
language plpgsql stable as $$
declare
    key platform.api_keys;
    name text := claimed;
begin
    if secret is not null then
        select * into key from platform.key_of(secret);
        if key.hash is null then
            return jsonb_build_object('why', 'unknown_key', 'name', '');
        end if;
        if platform.is_vouched(key.hash) then
            return jsonb_build_object(
                'name', key.owner, 'authenticated', true, 'may_approve', 'approve' = any (key.scopes),
                'details', jsonb_build_object('key', left(key.hash, 16), 'journal', platform.journal_head())
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

create function platform.refused(why text, name text default null, more jsonb default '{}') returns jsonb
language sql immutable as $$
    select jsonb_build_object('outcome', 'refused', 'why', why, 'name', name) || more
$$;

create function platform.why_not_text(reason text) returns text
language sql immutable as $$
    select case
        when length(coalesce(reason, '')) > 10000 then 'long_reason'
        when coalesce(reason, '') !~ E'\\S' then 'no_reason'
        when not platform.is_printable(reason, true) then 'unprintable_reason'
    end
$$;

create function platform.state_of(request bigint) returns text
language sql stable as $$
    select state from platform.approval_events where request_id = request order by sequence desc limit 1
$$;

create function platform.add_event(
    request bigint, state text, kind text, actor text, authenticated boolean, reason text default null,
    override boolean default false, delivery text default null, details jsonb default '{}'
) returns bigint
language sql as $$
    -- The trigger chain_event sets the other columns, and refuses a step that does not follow.
    insert into platform.approval_events (
        request_id, state, kind, actor, authenticated, reason, override, delivery, details,
        sequence, at, request_digest, previous_hash, hash
    )
    values (request, state, kind, actor, authenticated, reason, override, delivery, details, 0, now(), '', '', '')
    returning sequence
$$;

create function platform.champions(named text, out request bigint, out version integer, out digest text)
returns setof record
language sql stable as $$
    select asked.id, asked.version, asked.digest
    from platform.approval_requests asked
    cross join lateral (
        select state, sequence from platform.approval_events
        where request_id = asked.id order by sequence desc limit 1
    ) latest
    where asked.model = named and latest.state = 'PROMOTED' order by latest.sequence desc
$$;
