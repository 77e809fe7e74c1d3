package ossemu

import (
	"bytes"
	"encoding/xml"
	"net/http"
)

// apiError is an error that a client sees.
type apiError struct {
	status  int
	code    string
	message string
	ec      string
	extra   []pair // more elements of the body, in order
	header  []pair // more headers of the answer
}

func (e *apiError) Error() string { return e.code + ": " + e.message }

// body is the XML of the error.
func (e *apiError) body(id, host string) []byte {
	var b bytes.Buffer
	element := func(name, value string) {
		b.WriteString("\n  <" + name + ">")
		xml.EscapeText(&b, []byte(value))
		b.WriteString("</" + name + ">")
	}
	b.WriteString(xml.Header + "<Error>")
	element("Code", e.code)
	element("Message", e.message)
	element("RequestId", id)
	element("HostId", host)
	for _, p := range e.extra {
		element(p.name, p.value)
	}
	if e.ec != "" {
		element("EC", e.ec)
		element("RecommendDoc", "https://api.aliyun.com/troubleshoot?q="+e.ec)
	}
	b.WriteString("\n</Error>\n")
	return b.Bytes()
}

func refuse(status int, code, message, ec string, extra ...pair) *apiError {
	return &apiError{status: status, code: code, message: message, ec: ec, extra: extra}
}

var (
	errInternal    = refuse(500, "InternalError", "We encountered an internal error. Please try again.", "")
	errUnavailable = refuse(503, "ServiceUnavailable", "The server is being shut down.", "")
	errBrokenBody  = refuse(400, "IncompleteBody", "The request body broke off.", "")
	errNoLength    = refuse(411, "MissingContentLength", "You must provide the Content-Length HTTP header.", "")
	errTooLarge    = refuse(400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed object size.", "")
	errTooSmall    = refuse(400, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed object size.", "0042-00000213")
	errDigest      = refuse(400, "InvalidDigest", "The Content-MD5 you specified was invalid.", "")
	errExists      = refuse(409, "FileAlreadyExists", "The object you specified already exists and can not be overwritten.", "0026-00000067")
	errNotModified = refuse(304, "NotModified", "Not Modified", "")
	errFixed       = refuse(409, "ObjectNotAppendable", "The object is not appendable.", "")
	errNoCopy      = refuse(400, "OperationNotSupported", "An appendable object can not be copied.", "")
	errNoRestore   = refuse(400, "OperationNotSupported", "The operation is not supported for this resource", "")
	errRestoring   = refuse(409, "RestoreAlreadyInProgress", "The restore operation is in progress.", "")
	errLinkToLink  = refuse(400, "InvalidTargetType", "The target of a symbolic link must not be a symbolic link.", "0026-00000011")
	errArchived    = refuse(403, "InvalidObjectState", "The operation is not valid for the object's state", "")
	errPartOrder   = refuse(400, "InvalidPartOrder", "The list of parts was not in ascending order. Parts list must specified in order by part number.", "")
)

func noSuchBucket(name string) *apiError {
	return refuse(404, "NoSuchBucket", "The specified bucket does not exist.", "0015-00000101", pair{"BucketName", name})
}

func noSuchKey(key string) *apiError {
	return refuse(404, "NoSuchKey", "The specified key does not exist.", "0026-00000001", pair{"Key", key})
}

func noSuchUpload(id string) *apiError {
	return refuse(404, "NoSuchUpload", "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.", "0042-00000311", pair{"UploadId", id})
}

func missingArgument(name, ec string) *apiError {
	return refuse(400, "MissingArgument", "Missing Some Required Arguments.", ec, pair{"ArgumentName", name})
}

func preconditionFailed(condition string) *apiError {
	return refuse(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold.", "", pair{"Condition", condition})
}

func invalidArgument(name, value, message string) *apiError {
	return refuse(400, "InvalidArgument", message, "", pair{"ArgumentName", name}, pair{"ArgumentValue", value})
}

func invalidBucketName(name string) *apiError {
	return refuse(400, "InvalidBucketName", "The specified bucket is not valid.", "", pair{"BucketName", name})
}

func invalidObjectName(message, key string) *apiError {
	return refuse(400, "InvalidObjectName", message, "", pair{"ObjectName", key})
}

func malformedXML(ec string) *apiError {
	return refuse(400, "MalformedXML", "The XML you provided was not well-formed or did not validate against our published schema.", ec)
}

func notImplemented(what string) *apiError {
	return refuse(http.StatusNotImplemented, "NotImplemented", "A header or parameter you provided implies functionality that is not implemented.", "", pair{"Header", what})
}

func invalidPart(number string) *apiError {
	return refuse(400, "InvalidPart", "One or more of the specified parts could not be found or the specified entity tag might not have matched the part's entity tag.", "", pair{"PartNumber", number})
}
