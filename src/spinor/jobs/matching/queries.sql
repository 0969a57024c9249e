-- The statements of matching. The matcher comes from the waiting table and takes rows with SKIP LOCKED: it waits for
-- nobody. The names of VOs, groups and users are joined in; nothing of theirs is changed.

---------------------------------------------------------------------------------------------------- the view

-- name: read_waiting
-- every VO: one view serves the pilots of all; the matcher gives a pilot the queues of its own VO only.
-- Ten thousand counts several times a second: packed into one value, they cost the reader next to nothing.
SELECT coalesce(string_agg(int4send(t.task_queue_id) || int8send(t.jobs), ''), '') AS counts,
       coalesce((SELECT json_agg(json_build_array(s.user_id, s.vo_id)) FROM identity.suspension s
                  WHERE s.lifted_at IS NULL AND (s.ends_at IS NULL OR s.ends_at > clock_timestamp())), '[]') AS suspended
  FROM (SELECT task_queue_id, sum(jobs)::bigint AS jobs FROM jobs.tally_part WHERE status = 'waiting'
         GROUP BY task_queue_id HAVING sum(jobs) > 0) t;

-- name: read_occupied
-- every VO: limits may count the jobs of all of them.
-- What runs and what has been started, as of one snapshot: their difference is what a limit is checked by.
SELECT coalesce((SELECT string_agg(int4send(t.task_queue_id) || int4send(t.ce_id) || int8send(t.jobs) || int8send(t.cores), '')
                   FROM (SELECT task_queue_id, ce_id, sum(jobs)::bigint AS jobs, sum(cores)::bigint AS cores
                           FROM jobs.tally_part WHERE status IN ('matched', 'running', 'completing')
                          GROUP BY task_queue_id, ce_id HAVING sum(jobs) <> 0) t), '') AS counts,
       coalesce((SELECT json_agg(json_build_object(
                    'limit', l.limit_name, 'key', l.key, 'started', l.started, 'tokens', l.tokens,
                    'refilled_at', extract(epoch FROM l.refilled_at)::double precision,
                    'at', extract(epoch FROM clock_timestamp())::double precision))
                   FROM jobs.limit_state l), '[]') AS states;

-- name: list_queues
-- every VO: the view is one.
SELECT q.task_queue_id, v.name AS vo, g.name AS "group", u.name AS "user", q.wants
  FROM jobs.task_queue q
  JOIN identity.vo v USING (vo_id)
  JOIN identity.vo_group g USING (group_id)
  JOIN identity.user_account u ON u.user_id = q.owner_id
 WHERE q.task_queue_id = ANY (%(task_queue_ids)s::integer[])
 ORDER BY q.task_queue_id;

-- name: read_heads
-- every VO: the view is one.
SELECT coalesce(string_agg(int4send(q.task_queue_id) || int2send(head.priority) || int8send(head.job_id)
                           || float8send(extract(epoch FROM j.updated_at)::double precision), ''), '') AS heads
  FROM unnest(%(task_queue_ids)s::integer[]) AS q (task_queue_id)
 CROSS JOIN LATERAL (
    SELECT w.priority, w.job_id FROM jobs.waiting w
     WHERE w.task_queue_id = q.task_queue_id ORDER BY w.priority, w.job_id LIMIT 1
 ) head
 CROSS JOIN LATERAL (SELECT updated_at FROM jobs.job WHERE job.job_id = head.job_id) j;

-- name: list_use
-- every VO: the view is one.
SELECT s.vo_id, g.name AS "group", u.name AS "user", s.core_s,
       extract(epoch FROM clock_timestamp() - s.counted_at)::double precision AS age_s
  FROM jobs.share_usage s
  JOIN identity.vo_group g USING (group_id)
  JOIN identity.user_account u USING (user_id);

---------------------------------------------------------------------------------------------------- the claim

-- name: claim_jobs
-- every VO: pilots of several are served together, and each gets jobs of its own VO only.
-- From waiting to matched, for several pilots at once: what they want of a queue is added up, and the jobs are dealt out
-- in their order. Arrays keep every step on its key, whatever the planner believes of the tables' sizes.
WITH wish AS MATERIALIZED (
    SELECT * FROM unnest(%(wish_queue_ids)s::integer[], %(wish_counts)s::integer[], %(wish_priorities)s::smallint[],
                         %(wish_job_ids)s::bigint[]) AS w (task_queue_id, n, priority, job_id)
), deal AS MATERIALIZED (
    SELECT * FROM unnest(%(deal_queue_ids)s::integer[], %(deal_ns)s::bigint[], %(pilot_ids)s::bigint[],
                         %(vo_ids)s::integer[], %(site_ids)s::integer[], %(ce_ids)s::integer[], %(cores)s::smallint[],
                         %(waited_s)s::double precision[])
                  AS d (task_queue_id, n, pilot_id, vo_id, site_id, ce_id, cores, waited_s)
), head AS MATERIALIZED (
    SELECT wish.task_queue_id, t.place, t.priority, t.job_id
      FROM wish
     CROSS JOIN LATERAL (
        SELECT w.ctid AS place, w.priority, w.job_id FROM jobs.waiting w
         WHERE w.task_queue_id = wish.task_queue_id AND (w.priority, w.job_id) >= (wish.priority, wish.job_id)
         ORDER BY w.priority, w.job_id LIMIT wish.n FOR UPDATE SKIP LOCKED
     ) t
), free AS MATERIALIZED (
    SELECT j.job_id, j.vo_id, j.updated_at FROM jobs.job j
     WHERE j.job_id = ANY (ARRAY(SELECT job_id FROM head)) AND j.status = 'waiting'
       FOR UPDATE SKIP LOCKED
), dealt AS MATERIALIZED (
    SELECT numbered.place, numbered.job_id, numbered.priority, deal.pilot_id, deal.site_id, deal.ce_id, deal.cores
      FROM (SELECT head.task_queue_id, head.place, head.priority, free.job_id, free.vo_id, free.updated_at,
                   row_number() OVER (PARTITION BY head.task_queue_id ORDER BY head.priority, head.job_id) AS n
              FROM head JOIN free USING (job_id)) numbered
      JOIN deal ON deal.task_queue_id = numbered.task_queue_id AND deal.n = numbered.n AND deal.vo_id = numbered.vo_id
     WHERE deal.waited_s = 0 OR numbered.updated_at <= now() - make_interval(secs => deal.waited_s)
), taken AS (
    DELETE FROM jobs.waiting WHERE ctid = ANY (ARRAY(SELECT place FROM dealt))
), job AS (
    UPDATE jobs.job SET status = 'matched', minor_status = 'assigned', attempt = attempt + 1, exit_code = NULL,
           application_status = '', pilot_id = dealt.pilot_id, site_id = dealt.site_id, ce_id = dealt.ce_id,
           started_at = NULL, ended_at = NULL, cpu_s = NULL, wall_s = NULL, max_rss_bytes = NULL, updated_at = now()
      FROM dealt
     WHERE job.job_id = dealt.job_id AND job.status = 'waiting'
    RETURNING job.job_id, job.array_id, job.array_index, job.vo_id, job.owner_id, job.group_id, job.task_queue_id,
              job.attempt, dealt.priority, dealt.pilot_id, dealt.ce_id, dealt.cores
), lease AS (
    INSERT INTO jobs.running (job_id, vo_id, attempt, pilot_id, ce_id, cores, lease_expires_at)
    SELECT job_id, vo_id, attempt, pilot_id, ce_id, cores, now() + make_interval(secs => %(lease_s)s::integer)
      FROM job
), history AS (
    INSERT INTO jobs.job_history (job_id, vo_id, attempt, status, minor_status, source)
    SELECT job_id, vo_id, attempt, 'matched', 'assigned', 'pilot ' || pilot_id FROM job
), counted AS (
    INSERT INTO jobs.tally_change (task_queue_id, ce_id, status, jobs, cores)
    SELECT task_queue_id, change.ce_id, change.status, sum(change.jobs), sum(change.jobs * change.cores)
      FROM job CROSS JOIN LATERAL (VALUES
            (0, 'waiting'::jobs.job_status, -1, 0), (job.ce_id, 'matched', 1, job.cores::integer)
           ) AS change (ce_id, status, jobs, cores)
     GROUP BY 1, 2, 3
)
SELECT job.job_id, job.array_id, job.array_index, job.vo_id, job.owner_id, job.group_id, job.attempt, job.pilot_id,
       job.cores, job.task_queue_id, job.priority, (p.elements -> (job.array_index %% 100))::text AS parameters
  FROM job
  LEFT JOIN jobs.array_parameters p ON p.array_id = job.array_id AND p.block = job.array_index / 100
 ORDER BY job.priority, job.job_id;

-- name: list_specs
-- every VO: the jobs of these arrays have just been claimed.
SELECT array_id, spec FROM jobs.job_array WHERE array_id = ANY (%(array_ids)s::bigint[]);

-- name: lock_limits
-- every VO: limits may count the jobs of all of them.
-- In one order, so that servers that need several of them wait and do not block each other.
SELECT l.limit_name AS "limit", l.key, l.started, l.tokens, extract(epoch FROM l.refilled_at)::double precision AS refilled_at,
       extract(epoch FROM clock_timestamp())::double precision AS at
  FROM jobs.limit_state l
 WHERE (l.limit_name, l.key) IN (SELECT * FROM unnest(%(limits)s::text[], %(keys)s::text[]))
 ORDER BY l.limit_name, l.key FOR UPDATE;

-- name: insert_limits
-- every VO: limits may count the jobs of all of them.
INSERT INTO jobs.limit_state (limit_name, key)
SELECT limit_name, key FROM unnest(%(limits)s::text[], %(keys)s::text[]) AS k (limit_name, key) ORDER BY 1, 2
ON CONFLICT DO NOTHING;

-- name: count_starts
-- every VO: limits may count the jobs of all of them.
UPDATE jobs.limit_state l
   SET started = l.started + s.starts, tokens = s.tokens, refilled_at = to_timestamp(s.at)
  FROM unnest(%(limits)s::text[], %(keys)s::text[], %(starts)s::bigint[], %(tokens)s::double precision[],
              %(at)s::double precision[]) AS s (limit_name, key, starts, tokens, at)
 WHERE l.limit_name = s.limit_name AND l.key = s.key;

---------------------------------------------------------------------------------------------------- counters and use

-- name: list_wants
-- every VO: the pilot factory serves all of them, and asks per VO what its elements may run.
SELECT task_queue_id, wants FROM jobs.task_queue WHERE task_queue_id = ANY (%(task_queue_ids)s::integer[]);

-- name: is_fold_due
-- every VO: one journal serves all of them.
SELECT rest_until <= clock_timestamp() FROM jobs.tally_mark;

-- name: take_folding_turn
-- every VO: one journal serves all of them. Several folders would only wait for each other.
SELECT pg_try_advisory_xact_lock(hashtext('spinor.jobs.tally'));

-- name: fold_tally
-- every VO: one journal serves all of them.
WITH bound AS MATERIALIZED (
    SELECT edition, live_edition, below FROM jobs.tally_bound
), change AS (
    DELETE FROM jobs.tally_change
     WHERE xid >= (SELECT below FROM bound) AND xid <= '18446744073709551615'
    RETURNING task_queue_id, ce_id, status, jobs, cores
), summed AS MATERIALIZED (
    SELECT task_queue_id, ce_id, status, sum(jobs) AS jobs, sum(cores) AS cores,
           status IN ('waiting', 'matched', 'running', 'completing') AS live
      FROM change GROUP BY 1, 2, 3 HAVING sum(jobs) <> 0 OR sum(cores) <> 0
), folded AS (
    INSERT INTO jobs.tally AS t (edition, task_queue_id, ce_id, status, jobs, cores)
    SELECT bound.edition, s.task_queue_id, s.ce_id, s.status, s.jobs, s.cores
      FROM summed s CROSS JOIN bound WHERE NOT s.live ORDER BY s.status, s.task_queue_id, s.ce_id
    ON CONFLICT (edition, status, task_queue_id, ce_id) DO UPDATE
       SET jobs = t.jobs + excluded.jobs, cores = t.cores + excluded.cores
), folded_live AS (
    INSERT INTO jobs.tally_live AS t (edition, task_queue_id, ce_id, status, jobs, cores)
    SELECT bound.live_edition, s.task_queue_id, s.ce_id, s.status, s.jobs, s.cores
      FROM summed s CROSS JOIN bound WHERE s.live ORDER BY s.status, s.task_queue_id, s.ce_id
    ON CONFLICT (edition, status, task_queue_id, ce_id) DO UPDATE
       SET jobs = t.jobs + excluded.jobs, cores = t.cores + excluded.cores
), marked AS (
    UPDATE jobs.tally_mark SET below = pg_snapshot_xmin(pg_current_snapshot())
     WHERE EXISTS (SELECT FROM change)
)
SELECT count(*) FROM summed;

-- name: renew_live_tally
-- every VO: one journal serves all of them.
-- The next edition, without what has become nothing.
WITH mark AS (
    UPDATE jobs.tally_mark SET live_edition = live_edition + 1, live_renewed_at = clock_timestamp()
     WHERE live_renewed_at < clock_timestamp() - interval '10 seconds'
    RETURNING live_edition
), old AS (
    DELETE FROM jobs.tally_live WHERE edition = (SELECT live_edition - 1 FROM mark)
    RETURNING task_queue_id, ce_id, status, jobs, cores
)
INSERT INTO jobs.tally_live (edition, task_queue_id, ce_id, status, jobs, cores)
SELECT mark.live_edition, o.task_queue_id, o.ce_id, o.status, o.jobs, o.cores
  FROM old o CROSS JOIN mark WHERE o.jobs <> 0 OR o.cores <> 0 ORDER BY o.status, o.task_queue_id, o.ce_id;

-- name: renew_tally
-- every VO: one journal serves all of them.
-- The same for the jobs that rest: each hour, and when so much lies dead that vacuum seems unable to.
WITH mark AS (
    UPDATE jobs.tally_mark SET edition = edition + 1, renewed_at = clock_timestamp()
     WHERE renewed_at < now() - interval '1 hour'
        OR (SELECT n_dead_tup > 50000 + 4 * n_live_tup FROM pg_stat_user_tables WHERE relid = 'jobs.tally'::regclass)
    RETURNING edition
), old AS (
    DELETE FROM jobs.tally WHERE edition = (SELECT edition - 1 FROM mark)
    RETURNING task_queue_id, ce_id, status, jobs, cores
)
INSERT INTO jobs.tally (edition, task_queue_id, ce_id, status, jobs, cores)
SELECT mark.edition, o.task_queue_id, o.ce_id, o.status, o.jobs, o.cores
  FROM old o CROSS JOIN mark WHERE o.jobs <> 0 OR o.cores <> 0 ORDER BY o.status, o.task_queue_id, o.ce_id;

-- name: rest_from_folding
-- every VO: one journal serves all of them.
UPDATE jobs.tally_mark
   SET rest_until = clock_timestamp() + least(interval '1 min', 9 * (clock_timestamp() - transaction_timestamp()))
 WHERE clock_timestamp() - transaction_timestamp() > interval '100 ms';

-- name: lock_share_clock
-- every VO: all are charged at once. Two who charge take turns here, and the second finds that little time has passed.
SELECT extract(epoch FROM clock_timestamp() - charged_at)::double precision AS elapsed_s
  FROM jobs.share_clock FOR UPDATE;

-- name: start_share_clock
-- every VO: all are charged at once.
INSERT INTO jobs.share_clock (charged_at) VALUES (clock_timestamp()) ON CONFLICT DO NOTHING;

-- name: charge_shares
-- every VO: all are charged at once, each with its own half-life.
-- The integral of cores * 2^(-age / half-life) since the last time, added to what is left of the use until then.
WITH elapsed AS MATERIALIZED (
    UPDATE jobs.share_clock SET charged_at = charged_at + make_interval(secs => %(elapsed_s)s::double precision)
    RETURNING charged_at
), vo AS MATERIALIZED (
    SELECT v.vo_id, coalesce(w.half_life_s, %(half_life_s)s::double precision) AS half_life_s
      FROM identity.vo v
      LEFT JOIN unnest(%(vos)s::text[], %(half_lives_s)s::double precision[]) AS w (name, half_life_s) USING (name)
), used AS (
    SELECT q.vo_id, q.group_id, q.owner_id AS user_id, sum(t.cores) AS cores
      FROM (SELECT task_queue_id, sum(cores) AS cores FROM jobs.tally_part
             WHERE status IN ('matched', 'running', 'completing') GROUP BY task_queue_id) t
      JOIN jobs.task_queue q USING (task_queue_id)
     GROUP BY 1, 2, 3 HAVING sum(t.cores) > 0
)
INSERT INTO jobs.share_usage AS s (vo_id, group_id, user_id, core_s, total_core_s, counted_at)
SELECT used.vo_id, used.group_id, used.user_id,
       used.cores * (1 - exp(-ln(2) / vo.half_life_s * %(elapsed_s)s::double precision)) * vo.half_life_s / ln(2),
       used.cores * %(elapsed_s)s::double precision, elapsed.charged_at
  FROM used JOIN vo USING (vo_id) CROSS JOIN elapsed
 ORDER BY 1, 2, 3
ON CONFLICT (vo_id, group_id, user_id) DO UPDATE
   SET core_s = excluded.core_s + s.core_s * exp(-ln(2) / (SELECT half_life_s FROM vo WHERE vo.vo_id = s.vo_id)
                                    * extract(epoch FROM excluded.counted_at - s.counted_at)::double precision),
       total_core_s = s.total_core_s + excluded.total_core_s, counted_at = excluded.counted_at;

-- name: list_vo_use
-- every VO: they are compared.
SELECT v.vo_id, v.name AS vo, coalesce(use.core_s, 0) AS core_s, coalesce(now_running.cores, 0)::bigint AS running_cores
  FROM identity.vo v
  LEFT JOIN unnest(%(vos)s::text[], %(half_lives_s)s::double precision[]) AS wanted (name, half_life_s) USING (name)
  LEFT JOIN LATERAL (
    SELECT sum(s.core_s * exp(-ln(2) / coalesce(wanted.half_life_s, %(half_life_s)s::double precision)
                              * extract(epoch FROM clock_timestamp() - s.counted_at)::double precision)) AS core_s
      FROM jobs.share_usage s WHERE s.vo_id = v.vo_id
  ) use ON true
  LEFT JOIN (
    SELECT q.vo_id, sum(t.cores) AS cores
      FROM (SELECT task_queue_id, sum(cores) AS cores FROM jobs.tally_part
             WHERE status IN ('matched', 'running', 'completing') GROUP BY task_queue_id) t
      JOIN jobs.task_queue q USING (task_queue_id) GROUP BY q.vo_id
  ) now_running USING (vo_id)
 WHERE v.retired_at IS NULL
 ORDER BY v.name;

---------------------------------------------------------------------------------------------------- to explain

-- name: find_place_in_queue
-- Jobs of the same queue that go before this one, counted up to a bound.
SELECT count(*) AS ahead_in_queue
  FROM jobs.job j
 CROSS JOIN LATERAL (
    SELECT FROM jobs.waiting w
     WHERE w.task_queue_id = j.task_queue_id AND (w.priority, w.job_id) < ((9 - j.priority)::smallint, j.job_id)
     LIMIT 100000
 ) ahead
 WHERE j.job_id = %(job_id)s::bigint AND j.vo_id = %(vo_id)s::integer;

-- name: count_ahead_in_others
-- Jobs of the same user in other queues that go before this one where both fit, counted up to a bound in each.
SELECT count(*) FILTER (WHERE c.jobs > 0) AS queues, coalesce(sum(c.jobs), 0)::bigint AS jobs
  FROM jobs.job j
  JOIN jobs.task_queue q ON q.vo_id = j.vo_id AND q.owner_id = j.owner_id AND q.group_id = j.group_id
                        AND q.task_queue_id <> j.task_queue_id
 CROSS JOIN LATERAL (SELECT count(*) AS jobs FROM (
        SELECT FROM jobs.waiting w WHERE w.task_queue_id = q.task_queue_id
           AND (w.priority, w.job_id) < ((9 - j.priority)::smallint, j.job_id) LIMIT 1000) bounded) c
 WHERE j.job_id = %(job_id)s::bigint AND j.vo_id = %(vo_id)s::integer;

-- name: find_wants
SELECT wants FROM jobs.task_queue WHERE task_queue_id = %(task_queue_id)s::integer AND vo_id = %(vo_id)s::integer;

-- name: list_standings
-- What waits, runs and was used, by group and user.
WITH counted AS (
    SELECT q.group_id, q.owner_id AS user_id,
           coalesce(sum(t.jobs) FILTER (WHERE t.status = 'waiting'), 0)::bigint AS waiting,
           coalesce(sum(t.cores) FILTER (WHERE t.status <> 'waiting'), 0)::bigint AS cores
      FROM jobs.tally_now t JOIN jobs.task_queue q USING (task_queue_id)
     WHERE q.vo_id = %(vo_id)s::integer AND t.status IN ('waiting', 'matched', 'running', 'completing')
     GROUP BY 1, 2
)
SELECT g.name AS "group", u.name AS "user", coalesce(c.waiting, 0) AS waiting, coalesce(c.cores, 0) AS cores,
       coalesce(s.core_s * exp(-ln(2) / %(half_life_s)s::double precision
                               * extract(epoch FROM clock_timestamp() - s.counted_at)::double precision), 0) AS core_s
  FROM counted c
  FULL JOIN (SELECT * FROM jobs.share_usage WHERE vo_id = %(vo_id)s::integer) s USING (group_id, user_id)
  JOIN identity.vo_group g USING (group_id)
  JOIN identity.user_account u USING (user_id)
 ORDER BY g.name, u.name;

-- name: list_pilots_seen
-- Only to explain: pilots know jobs and not the other way round, so this reads their table and never writes it.
SELECT p.pilot_id, p.hostname, c.name AS ce, s.name AS site, p.offer, p.drain_reason,
       extract(epoch FROM now() - p.last_seen_at)::double precision AS ago_s
  FROM pilots.pilot p
  JOIN resources.computing_element c USING (ce_id)
  JOIN resources.site s USING (site_id)
 WHERE p.vo_id = %(vo_id)s::integer AND p.ended_at IS NULL AND p.offer IS NOT NULL AND p.purpose = 'work'
   AND p.last_seen_at > now() - make_interval(secs => %(within_s)s::double precision)
 ORDER BY p.last_seen_at DESC LIMIT 1000;

-- name: count_under_limit
-- every VO: limits may count the jobs of all of them; an empty name stands for all.
SELECT coalesce(sum(t.jobs), 0)::bigint
  FROM jobs.tally_now t
  JOIN jobs.task_queue q USING (task_queue_id)
  JOIN identity.vo v USING (vo_id)
  JOIN identity.vo_group g USING (group_id)
  JOIN identity.user_account u ON u.user_id = q.owner_id
  LEFT JOIN resources.computing_element c ON c.ce_id = t.ce_id
  LEFT JOIN resources.site s USING (site_id)
 WHERE t.status IN ('matched', 'running', 'completing')
   AND %(user)s::text IN ('', u.name) AND %(group)s::text IN ('', g.name) AND %(vo)s::text IN ('', v.name)
   AND %(site)s::text IN ('', s.name) AND %(ce)s::text IN ('', c.name)
   AND (%(label)s::text = '' OR q.wants -> 'labels' ? %(label)s::text);

-- name: find_limit_state
-- every VO: limits may count the jobs of all of them.
SELECT l.limit_name AS "limit", l.key, l.started, l.tokens, extract(epoch FROM l.refilled_at)::double precision AS refilled_at,
       extract(epoch FROM clock_timestamp())::double precision AS at
  FROM jobs.limit_state l WHERE l.limit_name = %(limit)s::text AND l.key = %(key)s::text;

-- name: list_open_dependencies
-- What an array still waits for, and how far that is. Of an array whose elements wait one by one, it is the job's own.
SELECT d.first_job_id, d.last_job_id, d.condition, d.each, ended.ended, ended.going
  FROM jobs.job j
  JOIN jobs.dependency d ON d.array_id = j.array_id AND NOT d.fulfilled
 CROSS JOIN LATERAL (
    SELECT CASE WHEN d.each THEN d.first_job_id + j.array_index ELSE d.first_job_id END AS first,
           CASE WHEN d.each THEN d.first_job_id + j.array_index ELSE d.last_job_id END AS last
 ) r
 CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE o.status IN ('done', 'failed', 'killed', 'deleted')) AS ended,
           count(*) FILTER (WHERE o.status NOT IN ('done', 'failed', 'killed', 'deleted')) AS going
      FROM (SELECT status FROM jobs.job o WHERE o.job_id BETWEEN r.first AND r.last LIMIT 100000) o
 ) ended
 WHERE j.job_id = %(job_id)s::bigint AND j.vo_id = %(vo_id)s::integer
 ORDER BY d.first_job_id LIMIT 20;

-- name: find_pause
SELECT d.until FROM jobs.delayed d JOIN jobs.job j USING (job_id)
 WHERE d.job_id = %(job_id)s::bigint AND j.vo_id = %(vo_id)s::integer;

-- name: count_pilots_alive
-- Only to explain: pilots know jobs and not the other way round, so this reads their table and never writes it.
SELECT c.name AS computing_element, p.status::text AS status, count(*) AS pilots
  FROM pilots.pilot p JOIN resources.computing_element c USING (ce_id)
 WHERE p.vo_id = %(vo_id)s::integer AND p.ended_at IS NULL
 GROUP BY c.name, p.status ORDER BY c.name, p.status;

-- name: list_pauses
-- Only to explain, as above: where the pilot factory waits before it tries again.
SELECT c.name AS computing_element, t.failures, t.reason, t.next_try_at
  FROM pilots.trouble t JOIN resources.computing_element c USING (ce_id)
 WHERE t.vo_id = %(vo_id)s::integer AND t.next_try_at > now() ORDER BY c.name;

-- name: find_queue_of_waiting
SELECT job.task_queue_id FROM jobs.job AS job
 WHERE job.job_id = %(job_id)s::bigint AND job.vo_id = %(vo_id)s::integer AND job.status = 'waiting';
