<?php
// Move a file and wait for it: php move.php SOURCE DESTINATION PATH [SIZE]
//
// DATAMOVER_URL is https://HOST:10700/data_mover, DATAMOVER_LOGIN is NAME:PASSWORD,
// DATAMOVER_CA a file with the certificate authority to trust (default: the system's).

const WAIT = 60;   // seconds: the most that jobs.wait takes

function call(string $method, mixed ...$parameters): mixed
{
    $body = xmlrpc_encode_request($method, $parameters, ['encoding' => 'UTF-8', 'escaping' => 'markup']);
    $answer = @file_get_contents(getenv('DATAMOVER_URL'), false, stream_context_create([
        'http' => [
            'method' => 'POST',
            'header' => ['Content-Type: text/xml', 'Authorization: Basic ' . base64_encode(getenv('DATAMOVER_LOGIN'))],
            'content' => $body,
            'timeout' => WAIT + 30,   // longer than jobs.wait
        ],
        'ssl' => array_filter(['cafile' => getenv('DATAMOVER_CA')]),
    ]));
    if ($answer === false) {
        fail('no answer: ' . trim(error_get_last()['message']));
    }
    $value = xmlrpc_decode($answer, 'UTF-8');
    if (is_array($value) && xmlrpc_is_fault($value)) {
        fail($value['faultString']);
    }
    return $value;
}

function fail(string $sentence): never
{
    fwrite(STDERR, "$sentence\n");
    exit(1);
}

[, $source, $destination, $path] = $argv;
$request = ['source' => $source, 'destination' => $destination, 'path' => $path, 'label' => "PHP: $path"];
if (isset($argv[4])) {
    $request['size'] = (float) $argv[4];   // xmlrpc's int ends at 2 GiB
}
$id = call('jobs.submit', $request)['id'];
do {
    $job = call('jobs.wait', $id, WAIT);
    printf("job %d, %s: %s, %d of %d bytes\n", $id, $job['label'], $job['status'], $job['bytes_done'],
        $job['bytes_total'] ?? 0);
} while (!in_array($job['status'], ['COMPLETED', 'PARTIAL', 'FAILED', 'CANCELLED']));
if ($job['status'] !== 'COMPLETED') {
    fail($job['error']['message']);
}
foreach (call('jobs.files', $id) as $file) {
    printf("%s: %d bytes, %s\n", $file['path'], $file['size'], $file['digest']);
}
