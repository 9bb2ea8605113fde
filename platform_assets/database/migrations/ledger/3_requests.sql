-- Functions for the platform's own steps: request, expire, promote, fail, and record that the registry shows an event.

create function platform.expire_requests(named text default null) returns bigint[]
language plpgsql security definer as $$
declare
    due bigint;
    expired bigint[] := '{}';
begin
    perform platform.begin_step();
    for due in
        select id from platform.approval_requests
        where (named is null or model = named) and expires_at <= clock_timestamp() and platform.state_of(id) = 'PENDING'
        order by id
    loop
        perform platform.add_event(due, 'EXPIRED', 'expire', 'platform', false);
        expired := expired || due;
    end loop;
    return expired;
end
$$;

create function platform.open_request(
    named text, version integer, digest text, threshold double precision, launched_by text,
    requester_secret text, requester_claimed text, declared_policy jsonb, evidence jsonb,
    plot_names text[], plot_files bytea[], champion_version integer, champion_digest text
) returns jsonb
language plpgsql security definer as $$
declare
    policy jsonb;
    requester jsonb;
    standing record;
    number bigint;
begin
    perform platform.begin_step();
    if requester_secret is not null or requester_claimed is not null then
        requester := platform.actor_of(requester_secret, requester_claimed);
        if requester ? 'why' then
            return platform.refused(requester ->> 'why', requester ->> 'name');
        end if;
    end if;
    if not platform.is_printable(coalesce(launched_by, ''), false) then
        return platform.refused('unprintable_name');
    end if;
    if length(launched_by) > 200 then
        return platform.refused('long_name');
    end if;
    if not platform.is_readable(evidence) then
        return platform.refused('unreadable_evidence', named);
    end if;
    policy := platform.rule('policy', named);
    if policy is distinct from declared_policy then
        return platform.refused(case when policy is null then 'no_policy' else 'other_policy' end, named);
    end if;
    perform platform.expire_requests(named);
    select id into number from platform.approval_requests asked
    where asked.model = named and asked.version = open_request.version and asked.digest = open_request.digest
        and platform.state_of(id) in ('PENDING', 'APPROVED');
    if found then
        return jsonb_build_object('outcome', 'open', 'request', number);
    end if;
    if (select champion.digest from platform.champions(named) champion limit 1) = digest then
        return platform.refused('is_champion', named);
    end if;
    insert into platform.approval_requests (
        model, version, digest, threshold, launched_by, requested_by, created_at, expires_at, policy, evidence, plots,
        champion_version, champion_digest
    )
    values (
        -- The trigger date_request sets both times.
        named, version, digest, threshold, launched_by, requester ->> 'name', now(), now(), policy, evidence,
        coalesce(
            (
                select jsonb_object_agg(plot.name, encode(sha256(plot.file), 'hex'))
                from unnest(plot_names, plot_files) as plot (name, file)
            ),
            '{}'
        ),
        champion_version, champion_digest
    )
    returning id into number;
    insert into platform.approval_plots (request_id, name, png)
    select number, plot.name, plot.file from unnest(plot_names, plot_files) as plot (name, file);
    for standing in
        select id from platform.approval_requests asked
        where asked.model = named and asked.version <= open_request.version and id <> number
            and platform.state_of(id) = 'PENDING'
        order by id desc
    loop
        perform platform.add_event(
            standing.id, 'SUPERSEDED', 'supersede', 'platform', false, details => jsonb_build_object('by', number)
        );
    end loop;
    perform platform.add_event(
        number, 'PENDING', 'request', coalesce(requester ->> 'name', 'platform'),
        coalesce((requester ->> 'authenticated')::boolean, false), details => coalesce(requester -> 'details', '{}')
    );
    return jsonb_build_object('outcome', 'opened', 'request', number);
end
$$;

-- Whether enough different people approved a request, each with a recorded proof of identity. Approvals from before
-- migration 0004 need no proof.
create function platform.is_approved(asked platform.approval_requests) returns boolean
language sql stable as $$
    select count(distinct platform.folded(actor)) >= (asked.policy ->> 'approvals')::integer
    from platform.approval_events event
    where event.request_id = asked.id and event.kind = 'approve' and (
        event.sequence <= platform.adopted_events()
        or exists (
            select from platform.api_keys key
            where event.authenticated and left(key.hash, 16) = event.details ->> 'key'
                and key.owner = event.actor and 'approve' = any (key.scopes)
        )
        or (not event.authenticated and not platform.identity_required() and event.details ? 'claimed')
    )
$$;

create function platform.promote(number bigint) returns jsonb
language plpgsql security definer as $$
declare
    asked platform.approval_requests;
    champion record;
begin
    perform platform.begin_step();
    select * into asked from platform.approval_requests where id = number;
    if not found then
        return platform.refused('no_request');
    end if;
    select * into champion from platform.champions(asked.model) limit 1;
    if platform.state_of(number) <> 'APPROVED' or clock_timestamp() >= asked.expires_at
        or champion.digest is distinct from asked.champion_digest
    then
        return platform.refused('stale');
    end if;
    if not platform.is_approved(asked) then
        return platform.refused('not_approved');
    end if;
    return jsonb_build_object('outcome', 'recorded', 'event', platform.add_event(
        number, 'PROMOTED', 'promote', 'platform', false,
        details => jsonb_build_object('version', asked.version, 'digest', asked.digest)
    ));
end
$$;

create function platform.fail_request(number bigint, reason text) returns jsonb
language plpgsql security definer as $$
begin
    perform platform.begin_step();
    if platform.state_of(number) is distinct from 'APPROVED' then
        return platform.refused('not_approved');
    end if;
    if reason !~ E'\\S' then
        return platform.refused('no_reason');
    end if;
    return jsonb_build_object(
        'outcome', 'recorded',
        'event', platform.add_event(number, 'FAILED', 'fail', 'platform', false, left(reason, 10000))
    );
end
$$;

create function platform.mark_projected(number bigint) returns void
language plpgsql security definer as $$
begin
    perform platform.begin_step();
    insert into platform.approval_projections (sequence)
    select sequence from platform.approval_events where sequence = number and kind in ('promote', 'roll_back')
    on conflict do nothing;
end
$$;
